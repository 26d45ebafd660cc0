"""The published recipe, row by row and as slow as it likes: hooks on whole models, no cache, no batching."""

import torch

from tests.nla.checkpoints import AR_TEMPLATE, AV_TEMPLATE, CHAR, LAYER, SCALE


def prompt_ids(tokenizer) -> list[int]:
    """One user message, chat-templated and tokenised in one step."""
    chat = [{"role": "user", "content": AV_TEMPLATE.replace("{injection_char}", CHAR)}]
    return tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)


def injecting(model, tokenizer, act, scale=SCALE):
    """A hook on the embedding module that puts the scaled vector where the marker stands in the prompt."""
    marker = tokenizer.encode(CHAR, add_special_tokens=False)[0]

    def hook(_module, args, output):
        rows = output.clone()
        for row, ids in enumerate(args[0].tolist()):
            for place, token in enumerate(ids):
                if token == marker:
                    rows[row, place] = (act.float() * scale / act.float().norm()).to(rows)
        return rows

    return model.get_input_embeddings().register_forward_hook(hook)


@torch.no_grad()
def embeddings(model, tokenizer, act):
    """What enters the first block for one vector."""
    handle = injecting(model, tokenizer, act)
    try:
        return model.get_input_embeddings()(torch.tensor([prompt_ids(tokenizer)]))[0]
    finally:
        handle.remove()


@torch.no_grad()
def response_logits(model, tokenizer, act, response: list[int]):
    """Logits that predict each response token of one vector."""
    prompt = prompt_ids(tokenizer)
    handle = injecting(model, tokenizer, act)
    try:
        logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0]
    finally:
        handle.remove()
    return logits[len(prompt) - 1 : -1]


@torch.no_grad()
def greedy(model, tokenizer, act, max_new_tokens: int, stop: tuple[int, ...]) -> list[int]:
    """Tokens of Hugging Face ``generate`` for one vector."""
    prompt = torch.tensor([prompt_ids(tokenizer)])
    handle = injecting(model, tokenizer, act)
    try:
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=max_new_tokens, do_sample=False,
            eos_token_id=list(stop), pad_token_id=0,
        )  # fmt: skip
    finally:
        handle.remove()
    return out[0, prompt.shape[1] :].tolist()


@torch.no_grad()
def vector(model, tokenizer, text: str, head):
    """The head applied to the output of block K at the last token of the raw prompt, in the uncut model."""
    kept = []
    block = (
        model.get_decoder().layers[LAYER] if hasattr(model.get_decoder(), "layers") else model.get_decoder().h[LAYER]
    )
    handle = block.register_forward_hook(
        lambda _m, _a, output: kept.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        ids = tokenizer(AR_TEMPLATE.replace("{explanation}", text), add_special_tokens=True)["input_ids"]
        model(input_ids=torch.tensor([ids]), use_cache=False)
    finally:
        handle.remove()
    return kept[0][0, -1].float() @ head.T
