"""Continuations from a server that speaks OpenAI's completions with vLLM's token ids (`vllm serve MODEL`, version 0.10.2 or newer).

Ids go both ways, text never: what a tokenizer makes of decoded text need not be what the target said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import torch
from torch import Tensor

from drafters.engine.limits import Limits
from drafters.errors import DraftersError

KEY = "VLLM_API_KEY"  # environment variable of the server's key, if it wants one
PATIENCE = 600.0  # seconds that one continuation may take
ATTEMPTS = 3  # of a request that the network, or a server that restarts, lost


class ServerError(DraftersError):
    """A server that cannot be reached or does not answer as expected."""


class Server:
    """A running server and the model it serves."""

    def __init__(self, url: str | None, model: str):
        if not url:
            raise ServerError(
                f"generate.url=null: expected the address of a running server; start one with `vllm serve {model}` and "
                f"set generate.url=http://localhost:8000/v1"
            )
        self.url, self.model = url.rstrip("/"), model
        key = os.environ.get(KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.HTTPTransport(retries=ATTEMPTS)
        self._client = httpx.Client(headers=headers, timeout=PATIENCE, transport=transport)

    def complete(
        self, prompts: Sequence[Tensor], requests: Sequence[int], limits: Limits, eos: Sequence[int], seed: int
    ) -> list[Tensor]:
        """New tokens of each prompt, int64 (n,) each, all asked for at once: the server makes its own batches.

        The seed of a request depends on its number alone. Raises ServerError.
        """
        with ThreadPoolExecutor(max(1, len(prompts))) as pool:
            bodies = (
                self._body(prompt, seed * 1_000_003 + request, limits, eos)
                for prompt, request in zip(prompts, requests, strict=True)
            )
            return list(pool.map(partial(self._one, most=limits.max_new_tokens), bodies))

    def _body(self, prompt: Tensor, seed: int, limits: Limits, eos: Sequence[int]) -> dict[str, object]:
        sampling = limits.sampling
        return {
            "model": self.model,
            "prompt": prompt.tolist(),
            "max_tokens": limits.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,  # vLLM's "off"
            "repetition_penalty": 1.0,  # or the model's generation config would decide, and bend the distribution
            "min_p": 0.0,
            "seed": seed % (1 << 63),
            "stop_token_ids": list(eos),
            "return_token_ids": True,
        }

    def _one(self, body: Mapping[str, object], most: int) -> Tensor:
        try:
            answer = self._client.post(f"{self.url}/completions", json=body)
        except httpx.HTTPError as error:
            raise ServerError(
                f"generate.url={self.url}: no answer ({type(error).__name__}: {error}); is `vllm serve {self.model}` running?"
            ) from error
        if answer.status_code != 200:
            raise ServerError(f"{self.url}: expected status 200, got {answer.status_code}: {answer.text[:300]}")
        try:
            ids = answer.json()["choices"][0].get("token_ids")
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise ServerError(
                f"{self.url}: expected OpenAI's completion with one choice, got {answer.text[:300]}"
            ) from error
        if not isinstance(ids, list) or not all(type(token) is int for token in ids):
            raise ServerError(
                f"{self.url}: expected choices[0].token_ids, a list of ids, got {ids!r:.100}; vLLM sends it from version 0.10.2 on"
            )
        if not 0 < len(ids) <= most:
            raise ServerError(f"{self.url}: expected 1 to {body['max_tokens']} new tokens, got {len(ids)}")
        return torch.tensor(ids, dtype=torch.int64)
