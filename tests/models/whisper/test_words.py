"""Tokens put together to words: as transformers does it, in languages with and without spaces."""

from __future__ import annotations

import pytest
from transformers import WhisperTokenizerFast
from transformers.models.whisper.tokenization_whisper import _combine_tokens_into_words

from pocket_opt.models.whisper.runner.words import split_words
from pocket_opt.shipped import locate

TEACHER = locate("sample:teacher", holding="config.json", where="-")
TEXTS = {
    "en": " \"Turn (it) off,\" she said -- twice! It's 5 o'clock, e.g. now... [ok]",
    "de": " Schließe die Tür, bitte; „jetzt“ öffnen wir sie. Straße",
    "es": " ¿Qué? ¡Ánimo, señor!",
    "ja": "電気を消してください。今、何時?",
    "zh": "请关灯，谢谢！",
    "ko": " 불을 꺼 주세요.",
    "th": "ปิดไฟ",
}
NAMES = {"ja": "japanese", "zh": "chinese", "th": "thai"}


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizerFast:
    return WhisperTokenizerFast.from_pretrained(TEACHER, local_files_only=True)


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("cut", [0, 1])
def test_words_are_those_of_transformers(tokenizer: WhisperTokenizerFast, language: str, cut: int) -> None:
    """Also where a text ends in the middle of a character."""
    ids = tokenizer.encode(TEXTS[language], add_special_tokens=False)
    ids = ids[: len(ids) - cut]
    expected, tokens, _ = _combine_tokens_into_words(tokenizer, ids, NAMES.get(language, "english"))
    found = split_words(ids, tokenizer.backend_tokenizer.decode, language)
    assert [piece.text for piece in found] == expected
    assert [piece.tokens for piece in found] == list(map(len, tokens))
    assert len(found) > 1


def test_nothing_was_said() -> None:
    assert split_words([], lambda _: "", "en") == []
