"""The client of a completions server, over real HTTP, against answers as vLLM 0.11 gives them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from drafters.engine.limits import Limits
from drafters.probs import Sampling
from pipeline.generate.vllm_client import KEY, Server, ServerError

# What `vllm serve` answers to a request with return_token_ids: fields as recorded, ids per request.
RECORDED = {
    "id": "cmpl-8f0c",
    "object": "text_completion",
    "created": 1760000000,
    "model": "org/target",
    "choices": [
        {
            "index": 0,
            "text": " return a",
            "logprobs": None,
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": [5, 6, 7],
            "prompt_logprobs": None,
            "prompt_token_ids": [1, 2],
        }
    ],
    "usage": {"prompt_tokens": 2, "total_tokens": 5, "completion_tokens": 3},
}


class Fake:
    """A server in a thread; `answer` makes (status, text) of a request's body."""

    def __init__(self):
        self.bodies, self.keys, fake = [], [], self
        self.answer = lambda body: (200, json.dumps(RECORDED))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.bodies.append((self.path, body))
                fake.keys.append(self.headers.get("Authorization"))
                status, text = fake.answer(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def fake():
    made = Fake()
    yield made
    made.server.shutdown()
    made.server.server_close()


LIMITS = Limits(3, Sampling(0.7, top_k=20, top_p=0.9))


def complete(fake, count=1, limits=LIMITS, seed=0):
    prompts = [torch.tensor([1, 2 + number]) for number in range(count)]
    return Server(fake.url, "org/target").complete(prompts, range(count), limits, (9,), seed)


def test_ids_go_both_ways_with_the_sampling_asked_for(fake, monkeypatch):
    monkeypatch.setenv(KEY, "token-abc")
    (found,) = complete(fake)
    assert found.dtype == torch.int64
    assert found.tolist() == [5, 6, 7]
    path, body = fake.bodies[0]
    assert path == "/v1/completions"
    assert body["prompt"] == [1, 2]
    wanted = {"max_tokens": 3, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "return_token_ids": True}
    assert wanted.items() <= body.items()
    assert body["stop_token_ids"] == [9]
    assert (body["repetition_penalty"], body["min_p"]) == (1.0, 0.0)  # nothing that bends the law
    assert fake.keys == ["Bearer token-abc"]


def test_filters_that_are_off(fake):
    complete(fake, limits=Limits(3))
    assert (fake.bodies[0][1]["top_k"], fake.bodies[0][1]["top_p"]) == (-1, 1.0)


def test_requests_keep_their_order_and_their_seeds(fake):
    def answer(body):
        ids = [body["prompt"][1]] * 2
        return 200, json.dumps({"choices": [{"token_ids": ids}]})

    fake.answer = answer
    assert [tokens.tolist() for tokens in complete(fake, 5)] == [[2 + n] * 2 for n in range(5)]
    seeds = {body["prompt"][1]: body["seed"] for _, body in fake.bodies}
    assert len(set(seeds.values())) == 5
    fake.bodies.clear()
    complete(fake, 3)  # in another batch
    assert {body["prompt"][1]: body["seed"] for _, body in fake.bodies}.items() <= seeds.items()
    fake.bodies.clear()
    complete(fake, 5, seed=1)
    assert not {body["seed"] for _, body in fake.bodies} & set(seeds.values())


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (404, '{"error": "no such model"}', r"expected status 200, got 404: .*no such model"),
        (200, "<html>", r"expected OpenAI's completion"),
        (200, '{"choices": []}', r"expected OpenAI's completion"),
        (200, '{"choices": [{"text": "a"}]}', r"choices\[0\]\.token_ids, a list of ids, got None; vLLM sends it from"),
        (200, '{"choices": [{"token_ids": [1, "2"]}]}', r"a list of ids, got \[1, '2'\]"),
        (200, '{"choices": [{"token_ids": [1, 2, 3, 4]}]}', r"expected 1 to 3 new tokens, got 4"),
        (200, '{"choices": [{"token_ids": []}]}', r"expected 1 to 3 new tokens, got 0"),
    ],
)
def test_answers_that_are_none(status, text, message, fake):
    fake.answer = lambda body: (status, text)
    with pytest.raises(ServerError, match=message):
        complete(fake)


def test_nobody_answers():
    with pytest.raises(ServerError, match=r"no answer .*is `vllm serve org/target` running"):
        Server("http://127.0.0.1:9", "org/target").complete([torch.tensor([1])], [0], LIMITS, (), 0)


def test_no_address():
    with pytest.raises(ServerError, match=r"generate\.url=null: .*start one with `vllm serve org/target`"):
        Server(None, "org/target")
