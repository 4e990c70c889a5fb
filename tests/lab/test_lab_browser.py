"""The lab in a real browser: Chromium without a window, on a server of its own."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="Streamlit is not installed (the extra `lab`)")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from linnet.lab.server import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
    pytest.mark.skipif(DRIVER is None, reason="there is no chromedriver here (Debian's chromium-driver)"),
]

PATIENCE_S = 60

WATCH = """
window.seen = [];
new MutationObserver(() => {
    const all = document.querySelectorAll('[data-testid=stChatMessage] [data-testid=stText]');
    if (all.length) window.seen.push(all[all.length - 1].textContent);
}).observe(document.body, {childList: true, subtree: true, characterData: true});
"""


@pytest.fixture(scope="module")
def address(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port(0)
    command = [sys.executable, "-m", "linnet", "lab", str(runs), "--port", str(port), "--no-browser"]
    log = tmp_path_factory.mktemp("lab-log") / "log"
    with open(log, "wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"})
    url = f"http://localhost:{port}/"
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
def browser(address: str) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        driver.get(address)
        yield driver
    finally:
        driver.quit()


def find(browser: WebDriver, selector: str, text: str = "") -> WebElement:
    """The first element that fits, as soon as it can be seen."""

    def look(driver: WebDriver) -> WebElement | None:
        for element in driver.find_elements(By.CSS_SELECTOR, selector):
            if text in element.text and element.is_displayed():
                return element
        return None

    return WebDriverWait(browser, PATIENCE_S).until(look)


def idle(browser: WebDriver) -> None:
    """Returns when the page has been drawn to its end."""
    WebDriverWait(browser, PATIENCE_S).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "[data-test-script-state=notRunning]")
    )


def messages(browser: WebDriver) -> list[str]:
    script = "return [...document.querySelectorAll('[data-testid=stChatMessage]')].map(e => e.querySelector("
    return browser.execute_script(script + "'[data-testid=stText]')?.textContent ?? null)")


def ask(browser: WebDriver, text: str) -> str:
    """The whole answer."""
    before = len(messages(browser))
    find(browser, "[data-testid=stChatInput] textarea").send_keys(text + Keys.ENTER)
    WebDriverWait(browser, PATIENCE_S).until(lambda _: len(messages(browser)) == before + 2)
    idle(browser)
    assert messages(browser)[before] == text
    return messages(browser)[before + 1] or ""


def new_chat(browser: WebDriver) -> None:
    find(browser, "button", "New chat").click()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: not messages(browser))
    idle(browser)


def move_slider(browser: WebDriver, label: str, key: str) -> None:
    slider = browser.find_element(By.CSS_SELECTOR, f"input[type=range][aria-label='{label}']")
    browser.execute_script("arguments[0].focus()", slider)  # what is seen of it is drawn beside it
    ActionChains(browser).send_keys(key).perform()
    time.sleep(0.5)  # the slider tells the server once it rests
    idle(browser)


def choose(browser: WebDriver, run: str) -> None:
    find(browser, "[data-testid=stSelectbox] input").click()
    find(browser, "[role=option]", run).click()


def test_an_answer_appears_piece_by_piece(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    move_slider(browser, "Temperature", Keys.END)  # wild answers are long
    browser.execute_script(WATCH)
    answer = max((ask(browser, text) for text in ("Hello!", "Tell me a story.", "And then?")), key=len)
    seen = {text for text in browser.execute_script("return window.seen") if text and answer.startswith(text)}
    assert answer in seen
    assert len(seen) > 2


def test_at_temperature_zero_equal_questions_in_new_chats_get_equal_answers(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    wild = set()
    move_slider(browser, "Temperature", Keys.END)
    for _ in range(2):
        wild.add(ask(browser, "What is your name?"))
        new_chat(browser)
    assert len(wild) == 2
    move_slider(browser, "Temperature", Keys.HOME)
    calm = set()
    for _ in range(2):
        calm.add(ask(browser, "What is your name?"))
        new_chat(browser)
    assert len(calm) == 1


def test_another_run_can_be_picked(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    ask(browser, "Hello!")
    choose(browser, "second")
    WebDriverWait(browser, PATIENCE_S).until(lambda _: not messages(browser))
    idle(browser)
    ask(browser, "Hello, second!")
    choose(browser, "stories")
    box = find(browser, "[data-testid=stTextArea] textarea")
    idle(browser)
    box.send_keys("Once upon a time")
    find(browser, "button", "Continue").click()
    assert find(browser, "[data-testid=stText]", "Once upon a time")
    idle(browser)
    choose(browser, "empty")
    assert "no checkpoint" in find(browser, "[data-testid=stAlert]").text
    choose(browser, "first")
    WebDriverWait(browser, PATIENCE_S).until(lambda _: len(messages(browser)) == 2)


def test_the_page_asks_nobody_but_its_server(browser: WebDriver, address: str) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    ask(browser, "Hello!")
    asked = set()
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            asked.add(event["params"]["request"]["url"])
    assert any(url.startswith(address) for url in asked)
    assert not {url for url in asked if not url.startswith((address, "data:", "blob:"))}


def test_the_page_answers_under_the_machines_number_too_and_under_no_foreign_name(
    browser: WebDriver, address: str
) -> None:
    browser.get(address.replace("localhost", "127.0.0.1"))
    assert find(browser, "[data-testid=stChatInput] textarea")
    ask(browser, "Hello!")
    port = address.rstrip("/").rpartition(":")[2]
    assert handshake(port, f"127.0.0.1:{port}") == 101
    assert handshake(port, f"evil.example:{port}") == 403


def handshake(port: str, host: str) -> int:
    """The status with which the page's own connection is opened, or not, under a name."""
    headers = {"Host": host, "Origin": f"http://{host}", "Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    connection.request("GET", "/_stcore/stream", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_suggestion_is_clicked_and_answered(browser: WebDriver) -> None:
    suggestion = find(browser, "button", "Hello!")
    suggestion.click()
    WebDriverWait(browser, PATIENCE_S).until(lambda _: len(messages(browser)) == 2)
    idle(browser)
    assert messages(browser)[0] == "Hello!"
    assert not [button for button in browser.find_elements(By.CSS_SELECTOR, "button") if button.text == "Hello!"]


def test_an_error_with_markup_in_it_is_plain_text(browser: WebDriver) -> None:
    choose(browser, "marked")
    assert "marked *up* :red[x] $y$ _z_" in find(browser, "[data-testid=stAlert]", "no checkpoint").text
