"""The words of the scene world as a tokenizer that the usual libraries load."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from data.scenes.captions import captions
from data.scenes.palette import COLOURS
from data.scenes.scene import sample
from data.scenes.world import PHRASES, PLACES, RELATIONS, THINGS, triplets
from data.simat.captions import write_caption
from finetune.scenes.prompts import PREFIXES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, START, UNKNOWN, END = "<pad>", "<start>", "<unk>", "<end>"
PUNCTUATION = r"[\p{P}\p{S}]"
ANSWERS = 4  # scenes per triplet whose captions are searched for words


@cache
def vocabulary() -> tuple[str, ...]:
    """Tokens by number: padding, start and unknown first, then the words in order; the end has the highest number.

    A text tower that pools at the highest token (``argmax``) so pools at the end.
    """
    texts = [*THINGS, *COLOURS, *PLACES, *PHRASES.values(), *RELATIONS, *PREFIXES, "left right facing looking not no"]
    texts += [write_caption(triplet) for triplet in triplets()]
    for number in range(ANSWERS * len(triplets())):
        texts += captions(sample(0, number))
    letters = "".join(c if c.isalnum() else " " for c in " ".join(texts).lower())
    return PAD, START, UNKNOWN, *sorted(set(letters.split())), END


def build_tokenizer(context: int) -> Tokenizer:
    """Lower-case words without punctuation between start and end, cut and padded to ``context`` tokens."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase, Replace, Sequence
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    numbers = {word: number for number, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = Sequence([Replace(Regex(PUNCTUATION), " "), Lowercase()])
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, numbers[START]), (END, numbers[END])]
    )
    tokenizer.enable_truncation(context)
    tokenizer.enable_padding(length=context, pad_id=numbers[PAD], pad_token=PAD)
    return tokenizer


def save_tokenizer(folder: Path, context: int) -> None:
    """Write the tokenizer as a ``PreTrainedTokenizerFast`` into ``folder``."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(context),
        model_max_length=context,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
    ).save_pretrained(folder)
