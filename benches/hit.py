"""What one exact hit takes through the whole process: `hit.py blocks|instructions BINARY`, heap blocks counted by
valgrind's DHAT or instructions outside the kernel by callgrind.

The process is run twice, with few and with many hits over one connection; the difference by their
distance is the cost of one, start-up excluded. Prints it, rounded.
"""

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

TOOLS = {  # options of valgrind, what it says at the end, few hits and many
    "blocks": (["--tool=dhat", "--dhat-out-file=/dev/null"], r"Total:.* in ([\d,]+) blocks", (200, 700)),
    "instructions": (["--tool=callgrind", "--callgrind-out-file=/dev/null"], r"Collected : (\d+)", (200, 3200)),
}
QUESTION = {"model": "m", "temperature": 0.2, "messages": [
    {"role": "system", "content": "You answer briefly and politely."},
    {"role": "user", "content": "What is the capital of France?"},
]}
ANSWER = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "Paris."}}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
}).encode()


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_):
        pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def connected(port):
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.1)
    sys.exit("hit.py: the proxy does not listen")


def hits(port, count):
    """Sends the question so often, and insists that all answers but the first are hits."""
    body = json.dumps(QUESTION).encode()
    request = (b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:8080\r\n"
               b"content-type: application/json\r\nauthorization: Bearer sk-0123456789abcdef\r\n"
               b"user-agent: OpenAI/Python 3.54.0\r\naccept: application/json\r\n"
               b"content-length: %d\r\n\r\n" % len(body)) + body
    with connected(port) as client, client.makefile("rb") as answers:
        for turn in range(count + 1):
            client.sendall(request)
            head = b"".join(iter(answers.readline, b"\r\n"))
            answers.read(int(re.search(rb"content-length: (\d+)", head)[1]))
            if turn and b"detail=exact" not in head:
                sys.exit(f"hit.py: no exact hit: {head.decode()}")


def total(options, told, binary, origin, count):
    port = free_port()
    settings = {"STORE__KIND": "off", "LISTEN__THREADS": "1", "LISTEN__ADMIN": "", "LOG__ACCESS": "false",
                "LOG__LEVEL": "error"}
    environment = os.environ | {f"REPRISE__{name}": value for name, value in settings.items()}
    command = ["valgrind", *options, binary, "--upstream", f"http://127.0.0.1:{origin}", "--listen", f"127.0.0.1:{port}"]
    proxy = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        hits(port, count)
    finally:
        proxy.send_signal(signal.SIGTERM)
        said = proxy.communicate()[1]
    return int(re.search(told, said)[1].replace(",", ""))


def main():
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    options, told, counts = TOOLS[sys.argv[1]]
    few, many = (total(options, told, sys.argv[2], origin.server_port, count) for count in counts)
    print(round((many - few) / (counts[1] - counts[0])))


main()
