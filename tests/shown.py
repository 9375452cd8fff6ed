#!/usr/bin/env python3
"""Runs every pipeline that the documents and the elements' texts show, as it stands there, by gst-launch-1.0.

    python3 tests/shown.py MODEL PICTURES [TEXT...]

A pipeline is what follows the word gst-launch-1.0, and a call of a script in pipelines/. All of README.md, docs/, the SECTION blocks and the
program's help are read, or the TEXTs in their place. MODEL is used where a pipeline names one, PICTURES is a folder of them.

Changed is only what a test has not: cameras become test pictures (once as a camera, once as a file), screens a sink that prerolls, hosts
this one, on which a broker and a PLC answer, and files of the system files in a folder. GStreamer finds the plugin as it is set up.
"""

import os
import pathlib
import re
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Longest run of a pipeline, in seconds.
LIMIT = 60

CAMERAS = "v4l2src|libcamerasrc|aravissrc|nvarguscamerasrc|pylonsrc"
SCREENS = "autovideosink|xvimagesink|ximagesink|glimagesink|waylandsink|kmssink"
# What to put in place of their camera.
SCRIPTS = {
    "learn.sh": {"VADLITE_SOURCE": "{camera}"},
    "reject-gate.sh": {"VADLITE_SOURCE": "{camera}"},
    "record-flagged.sh": {"VADLITE_SOURCE": "{camera}"},
    "usb-camera.sh": {"VADLITE_SOURCE": "{camera}"},
    "inspect.sh": {"VADLITE_SOURCE": "{camera}"},
    "raspberry-pi.sh": {"VADLITE_SOURCE": "{camera}"},
    "jetson.sh": {"VADLITE_SOURCE": "{camera}"},
    "genicam.sh": {"VADLITE_SOURCE": "{camera}"},
    "rtsp.sh": {"VADLITE_SOURCE": "{camera} ! videoconvert ! video/x-raw,format=I420 ! jpegenc ! rtpjpegpay"},
    "image-folder.sh": {},
    "video-file.sh": {},
    "demo.sh": {},
}


def fail(text):
    sys.exit(f"shown.py: {text}")


# --- what is shown ------------------------------------------------------------------------------------------------


def texts():
    yield from sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    yield from sorted(ROOT.glob("src/elements/*/mod.rs"))
    yield ROOT / "src/cli/mod.rs"


def without_marks(text):
    """Rust's marks of comments are no part of a line."""
    return re.sub(r"^\s*(///|//!| \*) ?", "", text)


def shown(path):
    """The commands of a text, each with the number of its line."""
    lines = [without_marks(line) if path.suffix == ".rs" else line for line in path.read_text().splitlines()]
    number = 0
    while number < len(lines):
        line, first = lines[number].strip(), number + 1
        number += 1
        for inline in re.findall(r"`([^`]*)`", line):
            if re.match(r"(gst-launch-1\.0 .* ! |sh pipelines/)", inline) or inline.endswith(" ! …"):
                yield first, inline
        # The help of the program has it behind some words.
        if found := re.search(r"(^|^[^`|#]*: )((?:[A-Z_]+=\S+ )*gst-launch-1\.0 .*)", line):
            command = found[2]
            # As a shell takes it: the next line only belongs to it behind a backslash.
            while command.endswith("\\") and number < len(lines):
                command = command.removesuffix("\\").rstrip() + " " + lines[number].strip()
                number += 1
            if " ! " in command:
                yield first, command
        elif line.startswith("sh pipelines/"):
            yield first, line.split(" #")[0].strip()


# --- what answers -------------------------------------------------------------------------------------------------


class Plc(socketserver.BaseRequestHandler):
    """Modbus TCP: writes of coils are confirmed, coils read as off."""

    def handle(self):
        while header := self.receive(7):
            transaction, protocol, length, unit = struct.unpack(">HHHB", header)
            request = self.receive(length - 1)
            code = request[0]
            answer = {1: b"\x01\x01\x00", 5: request, 15: request[:5]}.get(code, bytes([code | 0x80, 1]))
            self.request.sendall(struct.pack(">HHHB", transaction, protocol, len(answer) + 1, unit) + answer)

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.request.recv(count - len(data))
            if not part:
                return b""
            data += part
        return data


def start_plc():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Plc)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def start_broker(folder):
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") or fail(
        "mosquitto is needed: ./setup --tests installs it"
    )
    for _ in range(10):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n")
        log = open(folder / "mosquitto.log", "w")
        broker = subprocess.Popen([program, "-c", config], stderr=log, stdout=log)
        end = time.monotonic() + 30
        # Another program may have taken the port meanwhile.
        while broker.poll() is None and time.monotonic() < end:
            if " running" in (folder / "mosquitto.log").read_text():
                return broker, port
            time.sleep(0.05)
        broker.kill()
    fail("mosquitto does not start")


# --- how it is run ------------------------------------------------------------------------------------------------


class Stage:
    """A folder in which everything is that the pipelines name."""

    def __init__(self, folder, model, pictures):
        self.folder, self.model, self.pictures = folder, model, pictures
        self.plc = start_plc()
        self.broker, self.mqtt = start_broker(folder)

    def run(self, command, live):
        work = pathlib.Path(tempfile.mkdtemp(prefix="a run ", dir=self.folder))
        shutil.copyfile(self.model, work / "part.vadlite")
        # From a camera there is not the time to learn; a file has frames enough, and waits.
        learns = "mode=learn" in command and not live
        frames = 400 if learns else 30
        camera = f"videotestsrc pattern=snow num-buffers={frames}" + (" is-live=true" if live else "")
        environment = {}
        if script := re.match(r"sh pipelines/([\w-]+\.sh)", command):
            if script[1] not in SCRIPTS:
                return f"tests/shown.py does not know how to run {script[1]}"
            environment = {name: text.format(camera=camera) for name, text in SCRIPTS[script[1]].items()}
            environment["VADLITE_SINK"] = "fakesink"
            command = command.replace("sh pipelines/", f"sh {ROOT}/pipelines/", 1)
            # What may be left out is left out.
            command = re.sub(r"\s*\[[^]]*\]", "", command)
            command = re.sub(r"\bDIR\b", f"'{self.pictures}'", command)
        elif not re.match(r"([A-Z_]+=\S+ )*gst-launch-1\.0 ", command):
            command = "gst-launch-1.0 " + command.replace("…", "videoconvert ! vadlite model=part.vadlite ! fakesink")
        command = re.sub(rf"\b({CAMERAS})\b[^!]*?(?=\s!)", camera, command)
        command = re.sub(rf"\b({SCREENS})\b", "fakesink", command)
        command = self.rename_files(command, work)
        command = re.sub(r"\bmodbus-tcp://[^/\s\"]+", f"modbus-tcp://127.0.0.1:{self.plc}", command)
        command = re.sub(r"\bmqtts?://[^/\s\"]+", f"mqtt://127.0.0.1:{self.mqtt}", command)
        command = command.replace("gst-launch-1.0", "gst-launch-1.0 -e", 1)
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=work,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace")
            return f"{command}\n{output}\nhas not ended after {LIMIT} s"
        reasons = []
        if done.returncode:
            reasons.append(f"it ends with {done.returncode}")
        if done.stdout.count("CRITICAL **"):
            reasons.append("something is used wrongly")
        if learns and "the model is learnt" not in done.stdout:
            reasons.append("nothing is learnt")
        return f"{command}\n{done.stdout}\n{'; '.join(reasons)}" if reasons else None

    def rename_files(self, command, work):
        """Files of the system become files in `work`, and those that are read are made."""

        def moved(found):
            path = work / ("root" + found[2])
            path.parent.mkdir(parents=True, exist_ok=True)
            if found[1] == "credentials":
                path.write_text("user=line1\npassword=secret\n")
                path.chmod(0o600)
            return f"{found[1]}='{path}'"

        command = re.sub(r"\b([\w-]+)=(/[^\s,;\"]+)", moved, command)
        command = re.sub(r"\bFILE\b", "file.mp4", command)
        for name in re.findall(r"filesrc location=(\S+)", command) + re.findall(r"\bfile\.mp4\b", command):
            mux = {".mkv": "matroskamux", ".webm": "matroskamux", ".avi": "avimux"}.get(pathlib.Path(name).suffix, "qtmux")
            source = "videotestsrc pattern=snow num-buffers=20 ! video/x-raw,format=I420 ! jpegenc"
            make = f"gst-launch-1.0 -q {source} ! {mux} ! filesink location={name}"
            subprocess.run(["sh", "-c", make], cwd=work, check=True, timeout=LIMIT)
        return command


def main():
    if len(sys.argv) < 3:
        fail(__doc__)
    model, pictures = (pathlib.Path(name).resolve() for name in sys.argv[1:3])
    paths = [pathlib.Path(name) for name in sys.argv[3:]] or list(texts())
    commands = [(path, line, command) for path in paths for line, command in shown(path)]
    if unknown := {path.name for path in ROOT.glob("pipelines/*.sh")} - {"common.sh", *SCRIPTS}:
        fail(f"no run of {unknown} is known here")
    # None there: something is wrong with how they are read.
    for path in [pathlib.Path(name) for name in sys.argv[3:]] or [ROOT / "README.md", *ROOT.glob("src/elements/*/mod.rs")]:
        if path not in {path for path, _, _ in commands}:
            fail(f"{path} shows no pipeline")
    with tempfile.TemporaryDirectory(prefix="vadlite shown ") as folder:
        passed = 0
        stage = Stage(pathlib.Path(folder), model, pictures)
        try:
            for path, line, command in commands:
                if re.match("sh pipelines/demo.sh", command):
                    # Fetches pictures and builds: tests/pipelines.sh runs it on pictures of its own.
                    continue
                needs_camera = re.search(rf"\b({CAMERAS})\b", command)
                for live in (False, True) if needs_camera else (False,):
                    if reason := stage.run(command, live):
                        fail(f"{path}:{line}: {command}\n\n{reason}")
                passed += 1
                print(f"ok: {path.name}:{line}: {command}", flush=True)
        finally:
            stage.broker.kill()
    print(f"shown.py: {passed} passed, 0 failed")


main()
