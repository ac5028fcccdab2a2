"""A server that speaks the hub's interface for one dataset repository, and fails on demand."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REPO = "somebody/models"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = 60
"""Files below this size are kept in git itself, with git's checksum."""


class HubServer(ThreadingHTTPServer):
    """files: path -> content. faults: path -> what goes wrong, in turn; `requests` records all."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests, self.tokens = dict(files), {}, [], []
        self.private = False
        often = 0.01  # seconds between looks at whether it is to end; the default is half a second
        threading.Thread(target=self.serve_forever, args=(often,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def got(self, path):
        """How often a file's content was asked for."""
        return sum(r[0] == "GET" and r[1].endswith(path) for r in self.requests)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def entry(self, path):
        content = self.server.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found = {"type": "file", "path": path, "size": len(content), "oid": blob}
        if len(content) > SMALL:
            sha256 = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return found

    def refused(self, revision):
        if self.server.private and "Authorization" not in self.headers:
            self.answer(401, b"{}", X_Error_Code="RepoNotFound")
        elif f"/{REPO}/" not in self.path:
            self.answer(404, b"{}", X_Error_Code="RepoNotFound")
        elif revision not in ("main", "v1", COMMIT):
            self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
        else:
            return False
        return True

    def drip(self, body):
        """For eight seconds, unless nobody listens any more."""
        pieces = range(0, len(body), 1_000_000)
        try:
            for start in pieces:
                self.wfile.write(body[start : start + 1_000_000])
                time.sleep(8 / len(pieces))
        except OSError:
            self.close_connection = True

    def note(self):
        self.server.requests.append((self.command, urlsplit(self.path).path))
        self.server.tokens.append(self.headers.get("Authorization"))

    def do_POST(self):
        self.note()
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if not self.refused(unquote(self.path.rpartition("/")[2])):
            there = [self.entry(p) for p in form["paths"] if p in self.server.files]
            self.answer(200, json.dumps(there).encode(), Content_Type="application/json")

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.note()
        path = unquote(urlsplit(self.path).path)
        if "/tree/" in path:
            revision, _, folder = path.partition("/tree/")[2].partition("/")
            if not self.refused(revision):
                self.tree(folder)
        else:
            revision, _, file = path.partition("/resolve/")[2].partition("/")
            if not self.refused(revision):
                self.file(file)

    def tree(self, folder):
        prefix = f"{folder}/" if folder else ""
        below = [p for p in self.server.files if p.startswith(prefix)]
        if not below:
            self.answer(404, b"{}", X_Error_Code="EntryNotFound")
            return
        found = [self.entry(p) for p in below]
        if "recursive=True" not in self.path and "recursive=true" not in self.path:
            names = sorted({p.removeprefix(prefix).split("/")[0] for p in below})
            found = [
                self.entry(prefix + name)
                if prefix + name in self.server.files
                else {"type": "directory", "path": prefix + name, "oid": "0" * 40}
                for name in names
            ]
        # In pages of 50, as the hub does.
        start = int(parse_qs(urlsplit(self.path).query).get("cursor", ["0"])[0])
        headers = {"Content_Type": "application/json"}
        if start + 50 < len(found):
            bare = self.path.split("&cursor")[0]
            mark = "&" if "?" in bare else "?"
            headers["Link"] = f'<{self.server.url}{bare}{mark}cursor={start + 50}>; rel="next"'
        self.answer(200, json.dumps(found[start : start + 50]).encode(), **headers)

    def file(self, path):
        faults = self.server.faults.get(path, [])
        fault = faults.pop(0) if faults and self.command == "GET" else None
        if path not in self.server.files or fault == "404":
            self.answer(404, b"", X_Error_Code="EntryNotFound")
            return
        content, entry = self.server.files[path], self.entry(path)
        headers = {"X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        headers["ETag"] = f'"{entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]}"'
        if fault == "corrupt":
            content = bytes([content[0] ^ 1]) + content[1:]
        start, status = 0, 200
        if self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            status = 206
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.server.requests.append(("RANGE", path))
        body = content[start:]
        headers["Content_Length"] = len(body)
        if fault == "break":
            body = body[: len(body) // 2]
        if fault == "slow":
            self.answer(status, **headers)
            self.drip(body)
            return
        self.answer(status, body, **headers)
        if fault == "break":
            self.connection.close()
            self.close_connection = True
