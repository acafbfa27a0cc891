from __future__ import annotations

import json
from pathlib import Path

import pytest
from graph_sessions import source
from tokenizers import Tokenizer
from transformers import WhisperProcessor

from pocket_opt.models.whisper.checkpoint import WhisperDims, open_checkpoint
from pocket_opt.models.whisper.processor_files import feature_extractor_config, write_processor
from pocket_opt.models.whisper.vocabulary import Vocabulary

DIMS = WhisperDims(64, 1, 1, 1, 1, 64, 64, 80, 51_865, 1_500, 448)
TEXTS = (" turn on the light", "Straße 12, büro", " 日本", "", " aaa abc")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("processor")
    write_processor(directory, DIMS, Vocabulary.of_size(51_865, 30))
    return directory


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_out_as_it_went_in(full: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(full / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_transformers_loads_the_processor(full: Path) -> None:
    processor = WhisperProcessor.from_pretrained(full)
    tokenizer = processor.tokenizer
    assert len(tokenizer) == 51_865
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 50_257
    assert tokenizer.convert_tokens_to_ids("<|yue|>") == tokenizer.unk_token_id
    assert processor.get_decoder_prompt_ids(language="ko", task="translate")[1:] == [(2, 50_358), (3, 50_363)]
    text = "<|startoftranscript|><|en|><|transcribe|><|0.00|> aaa<|2.50|><|endoftext|>"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert len(ids) == 7
    assert tokenizer.decode(ids, skip_special_tokens=True) == " aaa"
    assert tokenizer.decode(ids, decode_with_timestamps=True) == text
    assert processor.feature_extractor.n_samples == 480_000


def test_common_words_are_one_token(full: Path) -> None:
    tokenizer = Tokenizer.from_file(str(full / "tokenizer.json"))
    assert len(tokenizer.encode(" abc", add_special_tokens=False).ids) == 1


def test_small_checkpoints_have_every_file() -> None:
    root = source().root
    dims = open_checkpoint(root).dims
    written = json.loads((root / "preprocessor_config.json").read_text())
    assert written == feature_extractor_config(dims)
    assert (written["nb_max_frames"], written["chunk_length"]) == (400, 4)
    assert {"vocab.json", "merges.txt", "added_tokens.json"} <= {path.name for path in root.iterdir()}
