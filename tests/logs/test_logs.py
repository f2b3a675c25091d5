"""No secret reaches a log, whichever renderer writes it and whoever speaks."""

import io
import json
import logging
import os
import sys
import tempfile
import threading
import time
import warnings

import pytest
import requests

from agent.core.errors import SinkError
from agent.core.secret import SHOWN, Secret
from agent.logs import redaction, setup
from agent.logs.log import log
from agent.logs.redaction import Redactor
from agent.system import journald

CANARY = "CanarySecretValue0123456789"


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class OnDisk:
    """A stream with a device and an inode of its own, to which $JOURNAL_STREAM can lead."""

    def __init__(self):
        self._file = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the object lives)

    def __getattr__(self, name):
        return getattr(self._file, name)

    @property
    def journal_stream(self):
        found = os.fstat(self._file.fileno())
        return f"{found.st_dev}:{found.st_ino}"

    def getvalue(self):
        self._file.seek(0)
        return self._file.read()


JOURNALLED = None
"""Stands for the environment of a unit whose standard error leads to the journal."""

OUTPUTS = {
    "plain": ("plain", {}, io.StringIO),
    "a journal that is gone": ("auto", JOURNALLED, OnDisk),
    "plain lines for the journal": ("plain", JOURNALLED, OnDisk),
    "json": ("json", {}, io.StringIO),
    "colour": ("auto", {"TERM": "xterm"}, Tty),
    "terminal without colour": ("auto", {"NO_COLOR": "1", "TERM": "xterm"}, Tty),
}


@pytest.fixture(params=OUTPUTS)
def output(request, monkeypatch):
    form, environ, make = OUTPUTS[request.param]
    stream = make()
    if environ is JOURNALLED:
        environ = {"JOURNAL_STREAM": stream.journal_stream}
        monkeypatch.setattr(journald, "SOCKET", "/nowhere/socket")
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    setup.set_up("debug", form, environ, stream)
    yield stream
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)
    setup.set_up("info", "plain", {})


def raise_with_canary_in_frame():
    secret = Secret(CANARY)
    local = secret.reveal()
    raise RuntimeError(f"https://kms/?Signature={local}")


def test_an_exception_shows_neither_its_text_nor_its_locals(output):
    """A fault from a frame that holds a secret is logged by its type and places."""
    try:
        raise_with_canary_in_frame()
    except RuntimeError:
        log.error("a fault", exc_info=True)
    text = output.getvalue()
    assert "RuntimeError" in text and "raise_with_canary_in_frame" in text
    assert CANARY not in text


def test_our_own_errors_are_shown_whole(output):
    """A sentence of ours is for the operator."""
    try:
        raise SinkError("/etc/x: is a symlink", "remove it")
    except SinkError:
        log.warning("failed", exc_info=True)
    assert "/etc/x: is a symlink" in output.getvalue()


def test_secrets_as_fields_do_not_print(output):
    """A Secret as a field, in a list or in a dict shows the placeholder."""
    log.info("fetched", value=Secret(CANARY), many=[Secret(CANARY)], by={"name": Secret(CANARY)})
    text = output.getvalue()
    assert "[secret]" in text
    assert CANARY not in text


@pytest.mark.parametrize(
    "name", ["aliyunsdkcore.client", "urllib3.connectionpool", "CacheClient", "unknown.library", ""]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_libraries_say_is_not_repeated(output, name):
    """Libraries' messages and arguments may hold signed URLs; at most that they spoke is logged."""
    logging.getLogger(name).error("request failed: https://kms/?Signature=%s", CANARY)
    logging.getLogger(name).critical("failed", exc_info=RuntimeError(CANARY))
    warnings.warn(CANARY, stacklevel=1)
    assert CANARY not in output.getvalue()


def test_a_real_library_at_debug_shows_no_query(output):
    """requests and urllib3 log request lines at DEBUG; they stay silent here."""
    logging.getLogger().setLevel(logging.DEBUG)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:1/?Signature={CANARY}", timeout=1)
    logging.getLogger().setLevel(logging.WARNING)
    assert CANARY not in output.getvalue()


def test_an_uncaught_fault_of_a_thread_is_one_line_without_its_text(output):
    """A thread that dies is reported without a traceback that could show values."""
    thread = threading.Thread(target=raise_with_canary_in_frame)
    thread.start()
    thread.join()
    text = output.getvalue()
    assert "please report it" in text
    assert CANARY not in text
    assert len(text.strip().splitlines()) == 1


def test_whose_fault_it_was_is_said_rightly(output):
    """A thread that a library started and let die is no fault of keyturn's; one that came through our code is."""
    ours = {"__name__": "agent.somewhere", "raise_it": raise_with_canary_in_frame}
    exec("def run(): raise_it()", ours)
    for target in (raise_with_canary_in_frame, ours["run"]):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    theirs, own = output.getvalue().strip().splitlines()
    assert "a thread of a provider or a library" in theirs
    assert "a fault of keyturn itself" in own


def test_a_record_is_one_line_whatever_it_holds(output):
    """No newline or escape sequence of a hook's output breaks out of its line."""
    log.info("hook said", detail="first\nsecond \x1b[31mred\x07", path="/a b/c")
    if "\x1b[" not in output.getvalue().replace("\x1b[31mred", ""):  # the coloured renderer writes its own
        assert "\x1b" not in output.getvalue()
        assert output.getvalue().count("\n") == 1


SECRETS = ["CanarySecretValue0123456789", "Canary/with+base64==", 'Canary quote" and back\\slash', "Canary-gehörig-✓"]


@pytest.fixture
def masks(monkeypatch):
    """No masks of other tests."""
    monkeypatch.setattr(redaction, "_masks", Redactor())


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_use_is_masked_wherever_it_stands(output, masks, secret):
    """A hook's output, a word of ours, an error's text: no line of any renderer shows a secret that is in use."""
    redaction.mask([secret], of="uploader")
    log.info("hook said", output=f"+ export KEY={secret} | done", path="/a")
    log.warning(f"odd: {secret}")
    log.error("failed", error=str(SinkError(secret)), many=[secret])
    try:
        raise SinkError(secret)
    except SinkError:
        log.error("failed", exc_info=True)
    text = output.getvalue()
    assert "Canary" not in text
    assert text.count("[secret]") == 5
    assert "done" in text


def test_each_credential_has_its_own_masks_and_the_value_before_stays_masked(output, masks):
    """A second credential's secrets do not uncover the first one's; an old value may be valid for days yet."""
    redaction.mask(["first-of-uploader"], of="uploader")
    redaction.mask(["first-of-other"], of="other")
    redaction.mask(["second-of-uploader"], of="uploader")
    redaction.mask(["second-of-uploader"], of="uploader")
    log.info("said", one="first-of-uploader", two="second-of-uploader", three="first-of-other")
    assert output.getvalue().count("[secret]") == 3
    redaction.mask(["third-of-uploader"], of="uploader")
    log.info("said", one="first-of-uploader")
    assert "first-of-uploader" in output.getvalue()


def test_a_short_word_is_not_masked(output, masks):
    """A secret of a few characters, or none, would make holes into harmless lines."""
    redaction.mask(["", "a", "status0"], of="uploader")
    log.info("status0 is fine")
    assert "status0 is fine" in output.getvalue()


def test_our_own_loggers_are_heard(output, masks):
    """What providers say by `logging`, such as which region is passed over, is shown in one line, masked too."""
    redaction.mask([CANARY], of="uploader")
    about = {"credential": "uploader"}
    place = logging.getLogger("providers.kms.secret")
    place.warning("region %s is passed over:\nno %s", "cn-hangzhou", CANARY, extra=about)
    text = output.getvalue()
    assert "uploader" in text, "which credential it is about is a field of its own"
    assert "region cn-hangzhou is passed over: no [secret]" in text
    assert "providers.kms.secret" in text
    assert len(text.splitlines()) == 1
    logging.getLogger("providersomething").warning("foreign words")
    assert "foreign words" not in output.getvalue()


def test_the_journal_gets_priorities():
    """Where lines lead to the journal each begins with its priority, as sd-daemon(3) reads it."""
    stream = OnDisk()
    setup.set_up("info", "plain", {"JOURNAL_STREAM": stream.journal_stream}, stream)
    log.error("bad", credential="uploader")
    log.info("good")
    setup.set_up("info", "plain", {})
    assert stream.getvalue() == "<3>bad credential=uploader\n<6>good\n"


def test_json_is_json_with_a_time():
    """One object a line, its time in UTC."""
    stream = io.StringIO()
    setup.set_up("info", "json", {}, stream)
    log.info("published", generation=3)
    setup.set_up("info", "plain", {})
    record = json.loads(stream.getvalue())
    assert (record["event"], record["generation"], record["level"]) == ("published", 3, "info")
    assert record["time"].endswith("Z")


def test_debug_of_the_sdks_is_switched_off(monkeypatch):
    """DEBUG=sdk makes Alibaba's SDKs print signed requests; set_up takes it out of the environment."""
    monkeypatch.setenv("DEBUG", "sdk")
    setup.set_up("info", "plain", {}, io.StringIO())
    import os

    assert "DEBUG" not in os.environ
    setup.set_up("info", "plain", {})


def test_an_exception_of_a_clean_up_is_one_line_without_its_text(output):
    """Python would print the text of what `__del__` raises, which nobody can catch."""

    class Leaky:
        def __del__(self):
            raise RuntimeError(CANARY)

    Leaky()
    text = output.getvalue()
    assert "a clean-up" in text and "RuntimeError" in text
    assert CANARY not in text
    assert len(text.strip().splitlines()) == 1


def test_a_thousand_credentials_are_masked_as_fast_as_one():
    """Overlapping secrets leave nothing, a secret of two credentials outlives one of them, and old ones are forgotten."""
    masks = Redactor()
    masks.put(["abcdefgh12345678", "12345678ijklmnop"], "one")
    assert masks.hide("<abcdefgh12345678ijklmnop>") == f"<{SHOWN}>"
    masks.put(["shared-by-both"], "one")
    masks.put(["shared-by-both"], "two")
    for value in ("next-of-one", "then-of-one"):
        masks.put([value], "one")
    assert masks.hide("shared-by-both next-of-one abcdefgh12345678") == f"{SHOWN} {SHOWN} abcdefgh12345678"
    for number in range(2000):
        masks.put([f"secret{number:024}"], f"c{number}")
    started = time.process_time()
    for number in range(2000):
        assert masks.hide(f"x=secret{number:024}") == f"x={SHOWN}"
        masks.put([f"newest{number:024}"], f"c{number}")
    assert time.process_time() - started < 10, "each line and each value costs as much as there are credentials"
