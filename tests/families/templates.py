# ruff: noqa: RUF001 - names of tokens are written as they are published
"""Chat templates in the turn formats of the families, written for these tests."""


def _turns(begin: str, middle: str, end: str, start: str = "{{ bos_token }}", assistant: str = "assistant") -> str:
    role = "{{ message['role'] }}"
    if assistant != "assistant":
        role = "{{ '" + assistant + "' if message['role'] == 'assistant' else message['role'] }}"
    return (
        f"{start}{{% for message in messages %}}{begin}{role}{middle}{{{{ message['content'] | trim }}}}{end}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{begin}{assistant}{middle}{{% endif %}}"
    )


CHATML = _turns("<|im_start|>", "\n", "<|im_end|>\n", start="")
LLAMA3 = _turns("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>")
LLAMA4 = _turns("<|header_start|>", "<|header_end|>\n\n", "<|eot|>")
GEMMA = _turns("<start_of_turn>", "\n", "<end_of_turn>\n", assistant="model")
PHI3 = _turns("<|", "|>\n", "<|end|>\n", start="")
PHI4 = _turns("<|im_start|>", "<|im_sep|>", "<|im_end|>", start="")
ZEPHYR = _turns("<|", "|>\n", "{{ eos_token }}\n", start="")
OLMO2 = _turns("<|", "|>\n", "\n")
GRANITE = _turns("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>\n", start="")
HARMONY = _turns("<|start|>", "<|message|>", "<|end|>", start="")
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %} {{ message['content'] }}"
    "{{ eos_token }}{% else %}[INST] {{ message['content'] }} [/INST]{% endif %}{% endfor %}"
)
R1 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}<｜Assistant｜>{{ message['content'] }}"
    "<｜end▁of▁sentence｜>{% else %}<｜User｜>{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
