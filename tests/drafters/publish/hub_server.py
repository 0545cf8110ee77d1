"""A Hub on this machine: the endpoints that huggingface_hub's commits, LFS uploads and downloads speak, and faults.

Semantics follow the Hub's where they matter here: a commit is all or nothing, names LFS objects that must exist, and
fails when its parent is no longer the head; a pull request is a ref; a private repository needs the token.
"""

import base64
import hashlib
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_" + "t" * 34
BIG = (".safetensors", ".gguf", ".pt")  # what the Hub keeps in LFS
Tree = dict[str, bytes]


@dataclass
class Repo:
    private: bool
    gated: bool = False  # everyone sees it, only the token's owner may read its files
    commits: dict[str, Tree] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)  # of main
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    requests: dict[int, dict] = field(default_factory=dict)

    def add(self, tree: Tree) -> str:
        oid = hashlib.sha1(json.dumps([len(self.commits), sorted(tree)]).encode()).hexdigest()
        self.commits[oid] = dict(tree)
        return oid

    def resolve(self, revision: str) -> str | None:
        return {**self.refs, **self.tags}.get(revision, revision if revision in self.commits else None)


class Answer(Exception):
    def __init__(self, status: int, body: object = None, **headers: str):
        self.status, self.body, self.headers = status, body, headers


@dataclass
class Hub:
    """State and switches of one server. ``fault(number, method, path)`` says what happens to a request, None: nothing."""

    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    fault: Callable[[int, str, str], str | None] = lambda number, method, path: None
    endpoint: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, method: str, path: str, query: dict, body: bytes, token: str | None) -> Answer:
        try:
            parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
            with self.lock:
                return self.route(method, parts, query, body, token)
        except Answer as answer:
            return answer

    def route(self, method, parts, query, body, token) -> Answer:
        if method in ("POST", "PUT", "DELETE") and parts[0] != "upload" and token != TOKEN:
            raise Answer(401, {"error": "Invalid credentials"})
        if parts[:2] == ["api", "validate-yaml"]:
            return validate(json.loads(body)["content"])
        if parts[:3] == ["api", "repos", "create"]:
            return self.create(json.loads(body))
        if parts[0] == "upload":
            return self.store(parts[1], body)
        if parts[2:5] == ["info", "lfs", "objects"]:
            return self.batch(json.loads(body))
        if parts[:2] == ["api", "models"] and parts[4:] == ["auth-check"]:
            require_access(self.repo("/".join(parts[2:4]), token), token)
            return Answer(200, {})
        if parts[:2] == ["api", "models"]:
            return self.api(
                method, self.repo("/".join(parts[2:4]), token), "/".join(parts[2:4]), parts[4:], query, body
            )
        if len(parts) > 3 and parts[2] == "resolve":
            repo = self.repo("/".join(parts[:2]), token)
            require_access(repo, token)
            return self.resolve(repo, parts[3:])
        raise Answer(404, {"error": f"no such endpoint {parts}"})

    def repo(self, name: str, token: str | None) -> Repo:
        repo = self.repos.get(name)
        if repo is None or (repo.private and token != TOKEN):
            raise Answer(401, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
        return repo

    def create(self, asked: dict) -> Answer:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repos:
            raise Answer(409, {"error": "exists", "url": f"{self.endpoint}/{name}"})
        repo = self.repos[name] = Repo(private=asked.get("visibility") == "private")
        repo.history = [repo.add({".gitattributes": b"*.safetensors filter=lfs\n"})]
        repo.refs["main"] = repo.history[-1]
        return Answer(200, {"url": f"{self.endpoint}/{name}", "name": name, "id": name})

    def store(self, oid: str, body: bytes) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Answer(400, {"error": "content of another hash"})
        self.objects[oid] = body
        return Answer(200)

    def batch(self, asked: dict) -> Answer:
        objects = []
        for item in asked["objects"]:
            there = item["oid"] in self.objects
            upload = {"actions": {"upload": {"href": f"{self.endpoint}/upload/{item['oid']}", "header": {}}}}
            objects.append({"oid": item["oid"], "size": item["size"], **({} if there else upload)})
        return Answer(200, {"transfer": "basic", "objects": objects})

    def api(self, method, repo: Repo, name: str, parts: list[str], query: dict, body: bytes) -> Answer:
        if not parts or parts[0] == "revision":
            return self.info(repo, name, parts[1] if parts else "main")
        if parts[0] == "tree":
            tree = repo.commits[self.known(repo, parts[1])]
            return Answer(200, [entry(path, data) for path, data in sorted(tree.items())])
        if parts[0] == "preupload":
            return preupload(json.loads(body), repo.commits[self.known(repo, parts[1])])
        if parts[0] == "commit":
            return self.commit(repo, name, parts[1], body, "create_pr" in query)
        if parts[0] == "refs":
            return Answer(200, {"branches": refs(repo.refs, "heads"), "tags": refs(repo.tags, "tags"), "converts": []})
        if parts[0] == "tag":
            tag = json.loads(body)["tag"]
            if tag in repo.tags:
                raise Answer(409, {"error": "tag exists"})
            repo.tags[tag] = self.known(repo, parts[1])
            return Answer(200)
        if parts[0] == "settings":
            repo.private = json.loads(body)["visibility"] == "private"
            return Answer(200, {"private": repo.private})
        if parts[0] == "discussions":
            return self.discussions(repo, name, parts[1:])
        raise Answer(404, {"error": f"no such endpoint {method} {parts}"})

    def known(self, repo: Repo, revision: str) -> str:
        oid = repo.resolve(revision)
        if oid is None:
            raise Answer(404, {"error": "Invalid rev id"}, **{"X-Error-Code": "RevisionNotFound"})
        return oid

    def info(self, repo: Repo, name: str, revision: str) -> Answer:
        oid = self.known(repo, revision)
        files = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        base = {"id": name, "modelId": name, "sha": oid, "private": repo.private, "siblings": files, "tags": []}
        base["gated"] = "auto" if repo.gated else False
        return Answer(200, {**base, "downloads": 0, "likes": 0, "createdAt": "2026-01-01T00:00:00.000Z"})

    def commit(self, repo: Repo, name: str, revision: str, body: bytes, request: bool) -> Answer:
        lines = [json.loads(line) for line in body.splitlines() if line]
        header = lines[0]["value"]
        head = repo.refs["main"]
        if revision != "main" or header.get("parentCommit", head) != head:
            raise Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        tree = dict(repo.commits[head])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.objects:
                    raise Answer(400, {"error": "LFS pointer to an object that does not exist"})
                tree[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del tree[value["path"]]
        oid = repo.add(tree)
        done = {"success": True, "commitOid": oid, "commitUrl": f"{self.endpoint}/{name}/commit/{oid}"}
        if not request:
            repo.refs["main"] = oid
            repo.history.append(oid)
            return Answer(200, done)
        number = len(repo.requests) + 1
        repo.refs[f"refs/pr/{number}"] = oid
        repo.requests[number] = {"title": header["summary"], "status": "open"}
        return Answer(200, {**done, "pullRequestUrl": f"{self.endpoint}/{name}/discussions/{number}"})

    def discussions(self, repo: Repo, name: str, parts: list[str]) -> Answer:
        if parts[1:] == ["merge"]:
            number = int(parts[0])
            if repo.requests[number]["status"] != "open":
                raise Answer(400, {"error": "not open"})
            repo.requests[number]["status"] = "merged"
            repo.refs["main"] = repo.add(repo.commits[repo.refs[f"refs/pr/{number}"]])
            repo.history.append(repo.refs["main"])
            event = {
                "id": "1",
                "type": "status-change",
                "createdAt": "2026-01-01T00:00:00.000Z",
                "author": {"name": "me"},
            }
            return Answer(200, {"newStatus": {**event, "data": {"status": "merged"}}})
        found = [
            {
                "num": number, "title": request["title"], "status": request["status"], "isPullRequest": True,
                "author": {"name": "me"}, "createdAt": "2026-01-01T00:00:00.000Z", "repo": {"name": name, "type": "model"},
            }
            for number, request in repo.requests.items()
            if request["status"] == "open"
        ]  # fmt: skip
        return Answer(200, {"discussions": found, "count": len(found), "start": 0})

    def resolve(self, repo: Repo, parts: list[str]) -> Answer:
        oid = self.known(repo, parts[0])
        data = repo.commits[oid].get("/".join(parts[1:]))
        if data is None:
            raise Answer(404, {"error": "Entry not found"}, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
        return Answer(200, data, **{"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'})


def require_access(repo: Repo, token: str | None) -> None:
    if repo.gated and token != TOKEN:
        raise Answer(403, {"error": "Access is restricted"}, **{"X-Error-Code": "GatedRepo"})


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path: str, data: bytes) -> dict:
    found = {"type": "file", "path": path, "size": len(data), "oid": blob(data)}
    if path.endswith(BIG):
        digest = hashlib.sha256(data).hexdigest()
        found["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
        found["oid"] = blob(digest.encode())
    return found


def preupload(asked: dict, tree: Tree) -> Answer:
    files = []
    for item in asked["files"]:
        data, path = tree.get(item["path"]), item["path"]
        mode = "lfs" if path.endswith(BIG) else "regular"
        same = None if data is None else hashlib.sha256(data).hexdigest() if mode == "lfs" else blob(data)
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **({"oid": same} if same else {})})
    return Answer(200, {"files": files})


def refs(found: dict[str, str], kind: str) -> list[dict]:
    return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in found.items()]


def validate(content: str) -> Answer:
    """The Hub's rules for a card's metadata, as far as documented: YAML, a licence, lists of strings, a full index."""
    try:
        data = yaml.safe_load(content.split("---")[1])
        wrong = [
            message
            for message, bad in (
                ("license is missing", not isinstance(data.get("license"), str)),
                ("other needs license_link", data.get("license") == "other" and not data.get("license_link")),
                ("tags must be strings", not all(isinstance(tag, str) for tag in data.get("tags", []))),
                ("model-index needs names", any("name" not in model for model in data.get("model-index", []))),
                (
                    "metrics need type and value",
                    any(
                        not {"type", "value"} <= set(metric)
                        for model in data.get("model-index", [])
                        for result in model["results"]
                        for metric in result["metrics"]
                    ),
                ),
            )
            if bad
        ]
    except (yaml.YAMLError, IndexError, AttributeError, KeyError, TypeError) as error:
        wrong = [str(error)]
    return Answer(400 if wrong else 200, {"errors": [{"message": message} for message in wrong], "warnings": []})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer in one packet: in two, the second waits 40 ms for the first one's acknowledgement
    hub: Hub

    def handle_any(self) -> None:
        body = self.read_body()
        url = urllib.parse.urlsplit(self.path)
        with self.hub.lock:
            number = len(self.hub.log)
            self.hub.log.append((self.command, url.path))
        fault = self.hub.fault(number, self.command, url.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.tokens.add(token)
        if fault in ("429", "500"):
            return self.send(Answer(int(fault), {"error": "injected"}))
        if fault == "drop":
            return self.cut()
        if fault == "timeout":
            threading.Event().wait(0.4)
            return self.cut()
        answer = self.hub.answer(self.command, url.path, urllib.parse.parse_qs(url.query), body, token)
        if fault == "lost":  # done, but nobody hears of it
            return self.cut()
        return self.send(answer)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args) -> None:
        pass


def serve() -> tuple[Hub, ThreadingHTTPServer]:
    """A hub on a free port of this machine; call ``shutdown`` of the second value when done."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return hub, server
