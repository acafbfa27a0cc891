"""Special ids, prompts and text of one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from .transcript import TASKS, DecodeOptions, RequestError, Segment


class Vocabulary:
    """Special ids and text of one model, read from its generation configuration and tokenizer.

    Attributes:
        start, end, pad: ids that open a transcript, end it, and fill rows that ended before others.
        languages: code -> id, by id; empty for an English-only model.
        previous: id before what was said earlier.
        timestamp_begin: id of <|0.00|>; every id from there on is a time.
    """

    def __init__(self, tokenizer: Path, generation: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self.start, self.end = int(generation["decoder_start_token_id"]), int(generation["eos_token_id"])
        self.pad = int(generation.get("pad_token_id", self.end))
        named = self._tokenizer.token_to_id("<|notimestamps|>")
        self.no_timestamps: int = generation.get("no_timestamps_token_id", named)
        self.no_speech = self.no_timestamps - 1  # by position: its name is <|nospeech|> or <|nocaptions|>
        told = self._tokenizer.token_to_id("<|startofprev|>")
        self.previous: int = generation.get("prev_sot_token_id", told)
        self.timestamp_begin = self.no_timestamps + 1
        languages = generation.get("lang_to_id", {}) if generation.get("is_multilingual", True) else {}
        ordered = sorted(languages.items(), key=itemgetter(1))
        self.languages: dict[str, int] = {token.strip("<|>"): index for token, index in ordered}
        self._tasks: dict[str, int] = generation.get("task_to_id", {})

    def language(self, name: str) -> str:
        """The code that `name` ("de", "<|de|>") stands for; RequestError if the model does not know it."""
        code, known = name.lower().strip("<|>"), sorted(self.languages) or ["en"]
        if code not in known:
            raise RequestError(f"language {name!r}: this model knows {', '.join(known)}")
        return code

    def prompt(self, options: DecodeOptions, language: str | None) -> list[int]:
        """The forced first tokens: start, language, task, and that there are no timestamps."""
        known = TASKS if self.languages else TASKS[:1]
        if options.task not in known:
            raise RequestError(f"task {options.task!r}: this model knows {', '.join(known)}")
        spoken = [self.languages[language], self._tasks[options.task]] if self.languages and language else []
        return [self.start, *spoken, *([] if options.timestamps else [self.no_timestamps])]

    def first_prompt(self, options: DecodeOptions) -> list[int]:
        """The forced first tokens; where `options.language` is None, those of the model's first language."""
        language = options.language or next(iter(self.languages), "en")
        return self.prompt(options, self.language(language))

    def spoken(self, options: DecodeOptions) -> str | None:
        """The code of the language asked for; None where it is to be detected, or there is only one."""
        return self.language(options.language) if self.languages and options.language else None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens` as it is: with the spaces around it, and U+FFFD for half a character."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    def text(self, tokens: Iterable[int]) -> str:
        """The words of `tokens`, without times and special tokens."""
        words = [token for token in tokens if token < self.timestamp_begin]
        return str(self._tokenizer.decode(words, skip_special_tokens=True)).strip()

    def segment(self, run: list[int], begin: float, end: float, seconds: float) -> list[Segment]:
        """What a run of tokens says between `begin` and `end`, times counting `seconds`; empty without words."""
        first = self.timestamp_begin
        times = [begin + (token - first) * seconds for token in run if token >= first]
        opens = min(times.pop(0) if times and run[0] >= first else begin, end)
        closes = max(opens, min([*times[:1], end]))
        return [Segment(round(opens, 3), round(closes, 3), text)] if (text := self.text(run)) else []
