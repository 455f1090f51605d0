"""Build the prompt tokenizer: a small Unigram model in the Hugging Face format that umt5-xxl uses.

Ids: <pad> 0, </s> 1, <s> 2, <unk> 3, then pieces. Lower-cased, white space collapsed, a word boundary is `▁`, `</s>` is
appended. Words of the grammar are whole pieces with the log of their frequency as score; frequent English letter groups,
letters, digits and punctuation are less likely pieces, so an unknown word falls apart into a few of them instead of <unk>.
"""

import argparse
import collections
import math
import os
import random
import re
import string

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import grammar

SPECIALS = ["<pad>", "</s>", "<s>", "<unk>"]
TEXT_LEN = 32
LETTER_GROUPS = ("th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne "
                 "ea ra ce li ch ll be ma si om ur ing ion tion ent and the ati for her ter ate ers all ver our ess ment able ally").split()


def build(prompts=20000, seed=0):
    rng = random.Random(seed)
    counts = collections.Counter()
    for _ in range(prompts):
        counts.update(re.findall(r"[a-z]+|[0-9,.]", grammar.prompt_of(grammar.sample_spec(rng), rng)))
    total = sum(counts.values())
    vocab = {piece: 0.0 for piece in SPECIALS}
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if word.isalpha():
            vocab["▁" + word] = math.log(count / total)
    vocab["▁"] = -9.0
    for group in LETTER_GROUPS:
        vocab.setdefault(group, -11.0)
    for letter in string.ascii_lowercase + string.digits + ".,;:!?'\"-()/&":
        vocab[letter] = -8.0 if letter in ",." else -12.0
    tokenizer = Tokenizer(models.Unigram(list(vocab.items()), unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def token_ids(tokenizer, text):
    """Ids cut or padded to TEXT_LEN; the cut keeps the final </s>."""
    ids = tokenizer.encode(text).ids
    ids = ids[:TEXT_LEN - 1] + [1] if len(ids) > TEXT_LEN else ids
    return ids + [0] * (TEXT_LEN - len(ids))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="runs/tokenizer.json")
    args = parser.parse_args()
    tokenizer = build()
    os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
    tokenizer.save(args.out)
    print(tokenizer.get_vocab_size(), "pieces")
    for text in ("", "A big red ball bouncing over green hills at sunset.", "An ELEPHANT dances  in the city, camera panning left"):
        print(tokenizer.encode(text).tokens, tokenizer.encode(text).ids)


if __name__ == "__main__":
    main()
