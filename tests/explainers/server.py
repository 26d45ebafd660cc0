"""A local server with JSON in and out, which records what it is asked."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def chat_server(answer):
    """A server with OpenAI's chat interface.

    ``answer(request_number, body)`` gives the status and a text, or bytes as they are sent. The context gives the
    address and the record.
    """

    def reply(number, route, body):
        status, said = answer(number, body)
        return status, {"choices": [{"message": {"content": said}}]} if isinstance(said, str) else said

    return json_server(reply)


@contextmanager
def json_server(answer):
    """Serve ``answer(request_number, route, body) -> (status, JSON or bytes)``; gives the address and the record."""
    record = {"bodies": [], "keys": [], "routes": [], "at_once": 0, "most": 0}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(None)

        def do_POST(self):
            self.reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def reply(self, body):
            route = self.path.removeprefix("/v1/")
            with lock:
                number = len(record["bodies"])
                record["bodies"].append(body)
                record["keys"].append(self.headers.get("authorization") or self.headers.get("x-secret-key"))
                record["routes"].append(route)
                record["at_once"] += 1
                record["most"] = max(record["most"], record["at_once"])
            status, said = answer(number, route, body)
            sent = said if isinstance(said, bytes) else json.dumps(said).encode()
            with lock:
                record["at_once"] -= 1
            self.send_response(status)
            self.send_header("content-length", str(len(sent)))
            if status == 429:
                self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
