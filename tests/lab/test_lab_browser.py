"""The lab in a real browser: Chromium without a window, on a server of its own."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="Streamlit is not installed (the extra `lab`)")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
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
    const all = document.querySelectorAll('[data-testid=stChatMessage] [data-testid=stHtml] p');
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


DRAWN_ANEW = [
    StaleElementReferenceException,
    NoSuchElementException,
    ElementNotInteractableException,
    ElementClickInterceptedException,
    StopIteration,
]
"""what an element raises where the page was drawn anew between finding it and using it"""


def waiting(browser: WebDriver) -> WebDriverWait[WebDriver]:
    """Asks again and again, also where the page was drawn anew meanwhile."""
    return WebDriverWait(browser, PATIENCE_S, ignored_exceptions=DRAWN_ANEW)


def use(browser: WebDriver, action: Callable[[WebElement], object], selector: str, text: str = "") -> None:
    """Does something with the first element that fits, once, as soon as the page lets it."""
    waiting(browser).until(lambda driver: [action(find(driver, selector, text))])


def click(browser: WebDriver, selector: str, text: str = "") -> None:
    use(browser, lambda element: element.click(), selector, text)


def say(browser: WebDriver, text: str) -> None:
    use(browser, lambda element: element.send_keys(text), "[data-testid=stChatInput] textarea")


def shows(browser: WebDriver, selector: str, text: str) -> str:
    """What stands in the first element that has `text` in it."""
    return waiting(browser).until(lambda driver: find(driver, selector, text).text)


def find(browser: WebDriver, selector: str, text: str = "") -> WebElement:
    """The first element that fits, as soon as it can be seen."""

    def look(driver: WebDriver) -> WebElement | None:
        for element in driver.find_elements(By.CSS_SELECTOR, selector):
            if text in element.text and element.is_displayed():
                return element
        return None

    return waiting(browser).until(look)


def begin(browser: WebDriver, text: str) -> None:
    """Types the beginning of a text."""
    idle(browser)
    use(browser, lambda element: element.send_keys(text), "textarea[aria-label='Begin a text']")


def write_on(browser: WebDriver) -> None:
    """Begins a text and lets the model go on with it. What met a page that was being drawn anew is done once more."""
    find(browser, "textarea[aria-label='Begin a text']")
    idle(browser)

    def begun(driver: WebDriver) -> bool:
        if driver.find_elements(By.CSS_SELECTOR, "ins"):
            return True
        if driver.find_elements(By.CSS_SELECTOR, "[data-test-script-state=notRunning]"):
            box = driver.find_element(By.CSS_SELECTOR, "textarea[aria-label='Begin a text']")
            box.send_keys(Keys.CONTROL + "a")
            box.send_keys("Once upon")
            press(driver, "Continue")
            time.sleep(2)
        return False

    waiting(browser).until(begun)
    idle(browser)


def idle(browser: WebDriver) -> None:
    """Returns when the page has been drawn to its end."""
    waiting(browser).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, "[data-test-script-state=notRunning]"))


def messages(browser: WebDriver) -> list[str]:
    script = "return [...document.querySelectorAll('[data-testid=stChatMessage]')].map(e => e.querySelector("
    return browser.execute_script(script + "'[data-testid=stHtml] p')?.textContent ?? null)")


def ask(browser: WebDriver, text: str) -> str:
    """The whole answer."""
    before = len(messages(browser))
    say(browser, text + Keys.ENTER)
    waiting(browser).until(lambda _: len(messages(browser)) == before + 2)
    idle(browser)
    assert messages(browser)[before] == text
    return messages(browser)[before + 1] or ""


def new_chat(browser: WebDriver) -> None:
    click(browser, "button", "New chat")
    waiting(browser).until(lambda _: not messages(browser))
    idle(browser)


def move_slider(browser: WebDriver, label: str, key: str) -> None:
    slider = browser.find_element(By.CSS_SELECTOR, f"input[type=range][aria-label='{label}']")
    browser.execute_script("arguments[0].focus()", slider)  # what is seen of it is drawn beside it
    ActionChains(browser).send_keys(key).perform()
    time.sleep(0.5)  # the slider tells the server once it rests
    idle(browser)


def choose(browser: WebDriver, run: str) -> None:
    """Picks a run. The list is drawn anew every few seconds, and a click on what is gone by then is none."""

    def picked(driver: WebDriver) -> bool:
        if f"run={run}" in driver.current_url:
            return True
        box = driver.find_element(By.CSS_SELECTOR, "[data-testid=stSelectbox] input")
        if not driver.find_elements(By.CSS_SELECTOR, "[role=option]"):
            box.click()
        options = driver.find_elements(By.CSS_SELECTOR, "[role=option]")
        next(option for option in options if run in option.text).click()
        end = time.monotonic() + 5
        while f"run={run}" not in driver.current_url and time.monotonic() < end:
            time.sleep(0.1)
        return f"run={run}" in driver.current_url

    waiting(browser).until(picked)


def press(browser: WebDriver, label: str) -> None:
    """Clicks the button that is called exactly so."""

    def pressed(driver: WebDriver) -> bool:
        buttons = driver.find_elements(By.CSS_SELECTOR, "button")
        next(button for button in buttons if button.text.rpartition("\n")[2] == label).click()
        return True

    waiting(browser).until(pressed)


def test_an_answer_appears_piece_by_piece(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    move_slider(browser, "Temperature", Keys.END)  # wild answers are long
    browser.execute_script(WATCH)
    most: set[str] = set()
    for text in ("Hello!", "Tell me a story.", "And then?") * 4:  # a short answer can be there between two looks
        answer = ask(browser, text)
        seen = {part for part in browser.execute_script("return window.seen") if part and answer.startswith(part)}
        assert answer in seen
        most = max(most, seen, key=len)
        if len(most) > 2:
            break
    assert len(most) > 2


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


def test_lines_that_are_all_indented_stand_as_they_were_typed(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    idle(browser)
    end_of_line = Keys.SHIFT + Keys.ENTER + Keys.SHIFT  # pressed again, it is let go
    say(browser, f"  if x < 1:{end_of_line}    y &amp; z{end_of_line}  *end*{Keys.ENTER}")
    waiting(browser).until(lambda _: len(messages(browser)) == 2 and messages(browser)[0])
    idle(browser)
    assert messages(browser)[0] == "  if x < 1:\n    y &amp; z\n  *end*"


def test_another_run_can_be_picked(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    ask(browser, "Hello!")
    choose(browser, "second")
    waiting(browser).until(lambda _: not messages(browser))
    idle(browser)
    ask(browser, "Hello, second!")
    choose(browser, "stories")
    begin(browser, "Once upon a time")
    press(browser, "Continue")
    assert find(browser, "[data-testid=stHtml]", "Once upon a time")
    idle(browser)
    choose(browser, "empty")
    assert find(browser, "[data-testid=stAlert]", "no checkpoint")
    choose(browser, "first")
    waiting(browser).until(lambda _: len(messages(browser)) == 2)


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
    click(browser, "button", "Hello!")
    waiting(browser).until(lambda _: len(messages(browser)) == 2 and messages(browser)[0])
    idle(browser)
    assert messages(browser)[0] == "Hello!"
    assert not [button for button in browser.find_elements(By.CSS_SELECTOR, "button") if button.text == "Hello!"]


def test_an_error_with_markup_in_it_is_plain_text(browser: WebDriver) -> None:
    choose(browser, "marked")
    assert "marked *up* :red[x] $y$ _z_" in shows(browser, "[data-testid=stAlert]", "no checkpoint")


def test_what_a_training_does_is_shown_while_it_trains_and_disturbs_no_typing(
    browser: WebDriver, address: str, runs: Path
) -> None:
    shutil.copytree(runs / "first", runs / "live")
    try:
        log(runs / "live", step=100, loss=2.5)
        browser.get(f"{address}?run=live")
        find(browser, "[data-testid=stMarkdown]", "training · step 100 · training loss 2.500")
        box = find(browser, "[data-testid=stChatInput] textarea")
        idle(browser)
        box.send_keys("half a que")
        log(runs / "live", step=200, loss=2.25)
        find(browser, "[data-testid=stMarkdown]", "training · step 200 · training loss 2.250")
        assert browser.find_element(By.CSS_SELECTOR, "[data-testid=stSelectbox] input").get_attribute("value") == (
            "live · training"
        )
        box.send_keys("stion")
        assert box.get_attribute("value") == "half a question"
        log(runs / "live", step=300, loss=2, ago=3600)
        find(browser, "[data-testid=stMarkdown]", "finished · step 300")
        waiting(browser).until(
            lambda driver: (
                driver.find_element(By.CSS_SELECTOR, "[data-testid=stSelectbox] input").get_attribute("value")
                == "live · finished"
            )
        )
        assert box.get_attribute("value") == "half a question"
    finally:
        shutil.rmtree(runs / "live")


def log(run: Path, step: int, loss: float, ago: float = 0) -> None:
    """A line at the end of a run's log."""
    row = {"kind": "train", "step": step, "train_loss": loss, "elapsed_s": step / 10}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    os.utime(run / "metrics.jsonl", (time.time() - ago,) * 2)


def test_reloading_keeps_run_chat_text_and_settings(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    choose(browser, "second")
    find(browser, "h3", "second")
    idle(browser)
    move_slider(browser, "Temperature", Keys.HOME)
    ask(browser, "Hello!")
    before = messages(browser)
    browser.refresh()
    waiting(browser).until(lambda _: messages(browser) == before)
    assert find(browser, "h3", "second")
    # the page comes piece by piece, and its state is "not running" before it began as well as after its end
    slider = "input[type=range][aria-label=Temperature]"
    waiting(browser).until(lambda driver: driver.find_element(By.CSS_SELECTOR, slider).get_attribute("value") == "0")
    idle(browser)
    press(browser, "Continue a text")
    write_on(browser)
    written = shows(browser, "[data-testid=stHtml]", "Once upon")
    browser.refresh()
    waiting(browser).until(lambda _: find(browser, "[data-testid=stHtml]").text == written)
    assert written.startswith("Once upon")


def test_an_answer_is_stopped_drawn_again_and_copied(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    move_slider(browser, "Temperature", Keys.END)
    length = browser.find_element(By.CSS_SELECTOR, "input[aria-label=Length]")
    length.send_keys(Keys.CONTROL + "a")
    length.send_keys("3000" + Keys.ENTER)
    idle(browser)
    browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    say(browser, "Hello!" + Keys.ENTER)
    waiting(browser).until(lambda _: len(messages(browser)) == 2 and messages(browser)[1])
    click(browser, "[data-testid=stChatInput] button")
    idle(browser)
    first = messages(browser)[1]

    def drawn_again(driver: WebDriver) -> bool:
        """Clicks once more where a click met a page that was being drawn anew."""
        if messages(driver)[1] not in (first, "", None):
            return True
        if driver.find_elements(By.CSS_SELECTOR, "[data-test-script-state=notRunning]"):
            find(driver, "button", "Again").click()
        return False

    waiting(browser).until(drawn_again)
    idle(browser)
    answer = messages(browser)[1] or ""

    def copied_it(driver: WebDriver) -> bool:
        inside = find(driver, "[data-testid=stBidiComponentIsolated]").shadow_root
        button = inside.find_element(By.CSS_SELECTOR, "button")
        if button.text != "Copied":
            button.click()
        return button.text == "Copied"

    waiting(browser).until(copied_it)
    copied = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == answer


def test_on_a_phone_the_run_is_named_and_nothing_is_wider_than_the_screen(browser: WebDriver, address: str) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(f"{address}?run=second")
    assert find(browser, "h3", "second")
    ask(browser, "Hello!")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_own_words_and_the_models_have_two_colours_that_can_be_read(
    browser: WebDriver, address: str, theme: str
) -> None:
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(f"{address}?run=second&do=Continue+a+text&temperature=2")
    write_on(browser)
    colour = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    page = browser.execute_script(colour, "[data-testid=stApp]", "backgroundColor")
    own = browser.execute_script(colour, "[data-testid=stHtml] p", "color")
    model = browser.execute_script(colour, "[data-testid=stHtml] ins", "color")
    assert own != model
    assert min(contrast(own, page), contrast(model, page)) > 4.5


def contrast(first: str, second: str) -> float:
    """Of two colours as browsers write them (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


def test_everything_that_can_be_operated_has_a_name(browser: WebDriver) -> None:
    find(browser, "[data-testid=stChatInput] textarea")
    ask(browser, "Hello!")
    assert unnamed(browser) == []
    press(browser, "Continue a text")
    find(browser, "textarea[aria-label='Begin a text']")
    idle(browser)
    assert unnamed(browser) == []


def unnamed(browser: WebDriver) -> list[str]:
    """The roles of what screen readers reach and cannot name."""
    roles = {"button", "combobox", "image", "radio", "slider", "spinbutton", "textbox"}
    found = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes = [node for node in found if not node.get("ignored") and node["role"]["value"] in roles]
    assert len(nodes) > 10
    return [node["role"]["value"] for node in nodes if not node.get("name", {}).get("value")]
