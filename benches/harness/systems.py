"""The systems under test: how each is installed, started, and found ready."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LOAD, PEERS, TOOLS = ROOT / "benches/load", ROOT / "benches/peers", ROOT / ".tools/peers"
PATH = "/v1/chat/completions"
ORIGIN, PROXY, TLS, ADMIN = 9301, 9310, 9312, 9311
FLOOR = 9316  # examples/floor.rs
FORGETFUL, FORGETFUL_ADMIN = 9314, 9315  # embeds each question, however often it comes
PORTKEY = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{ORIGIN}/v1"}


def need(program, package):
    """Debian's package of a program, where it is missing and may be installed."""
    if shutil.which(program):
        return
    if os.geteuid() != 0:
        sys.exit(f"scripts/bench: {program} is missing (Debian: apt-get install {package})")
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "install", "-y", "-qq", package], check=True, stdout=subprocess.DEVNULL)


def venv(name, *packages):
    """A virtual environment with these packages; made once."""
    home = TOOLS / name
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/pip", "install", "-q", *packages], check=True)
        (home / "done").touch()
    return home / "bin"


def portkey():
    """Portkey's gateway from npm; made once."""
    home = TOOLS / "portkey"
    found = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not found.exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "@portkey-ai/gateway"], cwd=home, check=True)
    return found


def wait(url, seconds=30):
    """Until something answers there, whatever it says."""
    for _ in range(seconds * 10):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except urllib.error.HTTPError as answer:
            if answer.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"scripts/bench: {url} did not answer")


def ask(port, prompt, headers=()):
    """One chat completion; the headers of its answer."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{PATH}", body,
        {"content-type": "application/json", "authorization": "Bearer bench", **dict(headers)})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        return answer.headers


class Running:
    """The processes of one run, each with its output in a file of the work folder."""

    def __init__(self, work):
        self.work = work
        self.children = []

    def start(self, name, *command, **environment):
        log = open(self.work / f"{name}.log", "w", encoding="utf-8")
        child = subprocess.Popen(
            [str(one) for one in command], cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **environment})
        self.children.append(child)
        return child

    def nginx(self):
        self.start("origin", "nginx", "-p", self.work, "-c", LOAD / "origin.conf")
        wait(f"http://127.0.0.1:{ORIGIN}/")
        self.start("nginx", "nginx", "-p", self.work, "-c", LOAD / "nginx.conf")
        wait("http://127.0.0.1:9302/")

    def floor(self):
        """A server of the same parts that does nothing."""
        self.start("floor", "target/release/examples/floor", FLOOR)
        wait(f"http://127.0.0.1:{FLOOR}/")

    def reprise(self, name, upstream, port, admin, **environment):
        """The release build with an empty store of its own, in front of a URL or of what a file lists."""
        source = ("--config", upstream) if isinstance(upstream, pathlib.Path) else ("--upstream", upstream)
        child = self.start(
            name, "target/release/reprise", *source, "--listen", f"127.0.0.1:{port}",
            "--admin", f"127.0.0.1:{admin}",
            REPRISE__STORE__PATH=str(self.work / name), REPRISE__LOG__ACCESS="false", **environment)
        wait(f"http://127.0.0.1:{admin}/readyz")
        if child.poll() is not None:
            sys.exit(f"scripts/bench: {name} ended; another process answers on {admin}")
        return child

    def peers(self):
        """What a user would pick instead, in front of the same origin."""
        for program, package in (("haproxy", "haproxy"), ("varnishd", "varnish")):
            need(program, package)
        self.start("nginx-cache", "nginx", "-p", self.work, "-c", PEERS / "nginx-cache.conf")
        self.start("haproxy", "haproxy", "-f", PEERS / "haproxy.cfg")
        self.start("varnish", "varnishd", "-F", "-n", self.work / "varnish", "-a", "127.0.0.1:9306",
                   "-f", PEERS / "varnish.vcl", "-s", "malloc,64m")
        litellm = venv("litellm", "litellm[proxy]") / "litellm"
        self.start("litellm", litellm, "--config", PEERS / "litellm.yaml", "--port", 9320, "--num_workers", 1,
                   PATH=f"{litellm.parent}:{os.environ['PATH']}")
        self.start("portkey", "node", portkey(), "--port=9330", "--headless")
        for port in (9304, 9305, 9306, 9330):
            wait(f"http://127.0.0.1:{port}/")
        wait("http://127.0.0.1:9320/health/liveliness", seconds=120)

    def settle(self, patience=120):
        """Until what was started has no work left: writes, indexes."""
        before = self.cpu()
        for _ in range(patience):
            time.sleep(1)
            now = self.cpu()
            if now - before < 0.03:
                return
            before = now
        sys.exit("scripts/bench: something goes on working without requests")

    def cpu(self):
        """Seconds of processor time that all children have used."""
        ticks = 0
        for child in self.children:
            fields = pathlib.Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def tell(self):
        """What each process printed last, for who must find out why a run failed."""
        for log in sorted(self.work.glob("*.log")):
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            sys.stderr.writelines(f"{log.stem}: {line}\n" for line in last)

    def stop(self):
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
