"""The page of the latent spaces, in a real browser where there is one."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import PROJECT
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.support.ui import WebDriverWait

from common.dataset import load_image
from common.latent import PRIOR_RADII
from common.metrics import predict, psnr
from common.plotting import DIGIT_COLORS
from common.pretrained import load_model
from MAP_template import map_estimate
from report import explorer

PAGE = PROJECT / "figures/explorer.html"
MODELS = {"autoencoder": "autoencoder", "vae": "vae2", "vae16": "vae16"}  # by the page's names
PLANES = ("autoencoder", "vae")
TOLERANCE = 1e-4  # of a pixel in [0, 1]: the page adds up in another order
SMALL = """return [...document.querySelectorAll("button, input")]
    .filter((e) => e.offsetParent && e.offsetHeight < 44).map((e) => e.outerHTML)"""
SEVEN = [(-55, -65), (45, -65), (-10, 80)]  # pixels from the center of the field


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium or Chrome; skip where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (found and driver):
        pytest.skip("needs Chromium or Chrome, and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    options.add_argument("--headless")
    options.add_argument("--no-sandbox")
    with webdriver.Chrome(options=options, service=Service(driver)) as chrome:
        yield chrome


@pytest.fixture
def page(browser, committed_checkpoints):
    """The committed page, newly opened in a window of desktop size."""
    resize(browser, 1400, 900)
    browser.get("about:blank")
    browser.get(PAGE.as_uri())
    wait(browser, lambda _: browser.find_element("id", "digit").text)
    yield browser
    assert not browser.get_log("browser")


def wait(page, condition):
    WebDriverWait(page, 60, poll_frequency=0.05).until(condition)


def resize(page, width, height, scheme="light"):
    """Set the size of the page, of windows that are smaller than any, too, and light or dark."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def find(page, name):
    """Return a part of the page, once the page has drawn what was requested."""
    page.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
    return page.find_element("id", name)


def picture(page, canvas):
    """Return the pixels of a canvas, (height, width, 3) in [0, 1]."""
    url = page.execute_script("return arguments[0].toDataURL()", find(page, canvas))
    png = base64.b64decode(url.partition(",")[2])
    with Image.open(io.BytesIO(png)) as file:
        return np.array(file.convert("RGB")) / 255


def decoded(page):
    return find(page, "place").text, picture(page, "decoded").mean().round(4)


def assert_shown(page, canvas, image):
    """Compare a canvas, whose image is enlarged, with an image `(1, 32, 32)`."""
    found = picture(page, canvas)[..., 0]
    factor = len(found) // 32
    found = found.reshape(32, factor, 32, factor).mean(axis=(1, 3))
    assert np.abs(found - image[0].clamp(0, 1).numpy()).mean() < 0.015, canvas


def place_of(page, latents):
    """Return the row and column of the pixel, or those of the pixels, where latents are drawn."""
    size = find(page, "scatter").get_property("width")
    low, high = np.transpose(page.execute_script("return limits()"))
    x, y = ((np.array(latents) - low) / (high - low)).T
    return (size * (1 - y)).astype(int), (size * x).astype(int)


def content_of(path=PAGE):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="content">(.*?)</script>', text)[1])


def halves(text):
    return np.frombuffer(base64.b64decode(text), "<f2").astype(float)


def network(name):
    """Return a model with its weights rounded to half precision, as those of the page are."""
    return load_model(name).half().float()


def test_the_page_holds_the_latents_and_the_images_of_its_dots(out, digits):
    explorer.main(["--dataset=digits", f"--out={out}"])
    content = content_of(*out.rglob("explorer.html"))
    labels, x = digits.labels_test, digits.x_clean_test
    assert list(base64.b64decode(content["labels"])) == labels.tolist()
    assert content["colors"] == list(DIGIT_COLORS)
    for name in PLANES:
        h = predict(load_model(MODELS[name], out).encode, x)
        found = halves(content["planes"][name]["latents"])
        assert found == pytest.approx(h.flatten().tolist(), abs=1e-2, rel=1e-3)
    error = (predict(load_model("vae16", out).reconstruct, x) - x).square().mean(dim=(1, 2, 3))
    assert content["errors"][::100] == pytest.approx([error.min().item(), error.max().item()])
    with Image.open(io.BytesIO(base64.b64decode(content["images"].partition(",")[2]))) as file:
        seen = torch.from_numpy(np.array(file)).view(-1, 1, 32, 32) / 255.0
    torch.testing.assert_close(seen, x[content["shown"]], atol=0.003, rtol=0)
    assert sorted(content["shown"]) == list(range(360)), "all are shown where there are fewer"


def test_the_page_starts_at_a_clear_digit_and_its_images_cover_both_planes():
    content = content_of()
    assert len(set(content["shown"])) == explorer.SHOWN
    for name in PLANES:
        plane, model = content["planes"][name], load_model(MODELS[name])
        latents = torch.from_numpy(halves(plane["latents"])).view(-1, 2)
        start = torch.tensor([plane["start"]])
        logits = load_model("classifier")(model.decode(start))
        assert logits.softmax(dim=1).max() > 0.9
        extent = (latents.amax(dim=0) - latents.amin(dim=0)).max()
        gap = torch.cdist(latents, latents[content["shown"]]).amin(dim=1)
        assert gap.max() < extent / 20
        assert torch.cdist(start, torch.tensor([*plane["names"].values()])).min() > 0.035 * extent


def test_the_committed_page_is_that_of_its_source_small_and_asks_nothing_of_the_network():
    text = PAGE.read_text(encoding="utf-8")
    assert len(text) < 2.5 * 2**20
    assert "default-src 'none'" in text
    assert "://" not in text
    start, end = explorer.TEMPLATE.read_text(encoding="utf-8").split("{{ content }}")
    assert text.startswith(start)
    assert text.endswith(end)


def test_the_networks_of_the_page_are_those_of_pytorch(page, mnist):
    run = "return arguments[1].map((x) => [...networks[arguments[0]](Float64Array.from(x))])"
    x = mnist.x_clean_test[:20]
    parts = [("classifier", network("classifier"), x)]
    for name, model in MODELS.items():
        found = network(model)
        parts.append((f"{name}, encoder", found.encoder.layers, x))
        parts.append((f"{name}, decoder", found.decode, predict(found.encode, x)))
    for name, part, inputs in parts:
        outputs = torch.tensor(page.execute_script(run, name, inputs.flatten(1).tolist()))
        expected = predict(part, inputs).flatten(1)
        assert torch.allclose(outputs, expected, atol=TOLERANCE, rtol=TOLERANCE), name


def mouse(page, x, y, part="scatter"):
    """Return actions that start with a move to a place, in pixels from the center of a part."""
    return ActionChains(page, duration=20).move_to_element_with_offset(find(page, part), x, y)


def draw(page, start, *corners):
    """Draw a line through places of the field."""
    chain = mouse(page, *start, "draw").click_and_hold()
    for x, y in corners:
        chain.move_to_element_with_offset(find(page, "draw"), x, y)
    chain.release().perform()


def test_a_drawn_seven_is_read_decoded_and_marked_where_its_latents_are(page, tmp_path):
    tops = "return [...document.querySelectorAll('body *')].map((e) => e.getBoundingClientRect().y)"
    assert find(page, "read").text == "draw your own"
    assert picture(page, "draw").mean() > 0.05, "no example in the field"
    before = page.execute_script(tops)
    draw(page, *SEVEN)
    assert find(page, "read").text == "read as a 7"
    assert page.execute_script(tops) == before, "something moved"
    bars = page.find_elements("css selector", "#probabilities b")
    assert sum(float(bar.text.rstrip(" %")) for bar in bars) == pytest.approx(100, abs=3)
    # The same preparation as `load_image`.
    Image.fromarray(np.uint8(255 * picture(page, "draw"))).save(tmp_path / "drawn.png")
    found = page.execute_script("return Array.from(prepare(gray(), field.width))")
    x = load_image(tmp_path / "drawn.png")
    assert found == pytest.approx(x.flatten().tolist(), abs=TOLERANCE)
    assert_shown(page, "prepared", x[0])
    for name, model in MODELS.items():
        assert_shown(page, f"by-{name}", predict(network(model).reconstruct, x)[0])
    for name in PLANES:
        find(page, f"tab-{name}").click()
        yellow = np.abs(picture(page, "scatter") - (1, 212 / 255, 0)).max(axis=2) < 0.02
        h = network(MODELS[name]).encode(x)[0].tolist()
        assert np.argwhere(yellow).mean(axis=0) == pytest.approx(place_of(page, h), abs=3), name
    find(page, "clear").click()
    assert page.execute_script("return [prepare(gray(), 280), plane.own]") == [None, None]
    assert find(page, "read").text == "draw your own"


def test_what_is_no_digit_is_said_to_be_none(page):
    draw(page, *[(90 * (-1) ** i, 90 - 36 * (i // 2)) for i in range(12)])
    assert "unlike any digit" in find(page, "read").text
    assert re.search(r"larger than that of (99|100) %", find(page, "error").text)


def test_hovering_previews_and_a_click_or_dragging_places_the_point(page):
    start = decoded(page)
    mouse(page, -100, 100).perform()
    hovered = decoded(page)
    mouse(page, 0, 0, "legend").perform()
    assert decoded(page) == start
    mouse(page, -100, 100).click().perform()
    mouse(page, 0, 0, "legend").perform()
    assert decoded(page) == hovered
    mouse(page, -100, 100).click_and_hold().move_by_offset(60, -40).release().perform()
    dragged = decoded(page)
    find(page, "scatter").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert len({start, hovered, dragged, decoded(page)}) == 4
    assert not find(page, "walk").is_displayed()


def test_a_finger_places_the_point_and_taps_lock_nothing(page):
    plane, seen = find(page, "scatter"), [decoded(page)]
    for start, end in ((-80, 60), (60, 60), (10, 10), (40, 40)):
        touch = ActionBuilder(page, mouse=PointerInput("touch", "finger"))
        touch.pointer_action.move_to(plane, start, 10).pointer_down()
        touch.pointer_action.move_to(plane, end, 10).pointer_up()
        touch.perform()
        seen.append(decoded(page))
    assert seen[1] == seen[2], "the point is not where the finger let go"
    assert len(set(seen)) == 4
    assert not find(page, "walk").is_displayed()


def test_the_image_shown_is_that_of_the_nearest_latent_and_its_dot_is_ringed(page, mnist):
    content = content_of()
    shown = content["shown"]
    latents = halves(content["planes"]["vae"]["latents"]).reshape(-1, 2)[shown]
    # A point where the sum or the larger of the distances along both axes finds others.
    for point in np.random.default_rng(0).uniform(-2, 2, (999, 2)):
        apart = np.abs(latents - point)
        nearest = np.hypot(*apart.T).argmin()
        if nearest not in (apart.sum(axis=1).argmin(), apart.max(axis=1).argmin()):
            break
    find(page, "tab-vae").click()
    page.execute_script("move(arguments[0])", point.tolist())
    image = shown[nearest]
    assert find(page, "digit").text[-1] == str(mnist.labels_test[image].item())
    assert_shown(page, "nearest", mnist.x_clean_test[image])
    assert page.execute_script("return plane.ring") == pytest.approx(list(latents[nearest]))
    assert_shown(page, "decoded", network("vae2").decode(torch.tensor(point).float()[None])[0])


def test_the_dots_have_the_colors_of_the_legend_in_light_and_dark(page, mnist):
    latents = halves(content_of()["planes"]["vae"]["latents"]).reshape(-1, 2)
    find(page, "tab-vae").click()
    for scheme, most in (("light", 255), ("dark", 1)):  # the largest value of a CSS color
        resize(page, 1400, 900, scheme)
        seen = picture(page, "scatter")
        for digit, entry in enumerate(page.find_elements("css selector", "#legend i")):
            rgb = re.findall(r"[\d.]+", entry.value_of_css_property("background-color"))[:3]
            expected = 0.7 * np.array(rgb, float) / most + 0.3 * seen[0, 0]
            dots = seen[place_of(page, latents[mnist.labels_test.numpy() == digit])]
            alone = np.abs(dots - expected).max(axis=1) < 0.02  # most dots overlap
            assert alone.sum() > 10, (scheme, digit)


def test_the_circles_hold_their_shares_and_half_planes_without_images_are_gray(page):
    outside = picture(page, "scatter")[place_of(page, [2, -0.6])]
    assert outside == pytest.approx(0xE8 / 255, abs=0.01)
    assert not find(page, "prior").is_displayed()
    find(page, "tab-vae").click()
    assert "50, 90 and 99 %" in find(page, "prior").text
    seen, angles = picture(page, "scatter"), np.linspace(0, 6, 40)
    for radius in PRIOR_RADII.values():
        circle = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        dark = 0
        for row, column in zip(*place_of(page, circle), strict=True):
            patch = seen[row - 1 : row + 2, column - 1 : column + 2]
            dark += patch.max(axis=2).min() < 0.45
        assert dark > 30, f"no circle of radius {radius:.2f}"


def test_pins_by_a_button_a_click_or_a_key_make_a_line_that_lets_go(page):
    for place in ((-150, -150), (120, 120)):
        assert not find(page, "line").is_displayed()
        mouse(page, *place).click().perform()
        find(page, "pin").click()
    at_the_end = decoded(page)
    find(page, "line").send_keys(Keys.HOME)
    assert decoded(page) != at_the_end
    # The nearest place of the line from (-150, -150) to (120, 120).
    mouse(page, 75, -105).click().perform()
    share = find(page, "line").get_property("value")
    assert float(share) == pytest.approx(0.5, abs=0.02)
    find(page, "release").click()
    assert not find(page, "walk").is_displayed()
    for x in (-100, 100):
        mouse(page, x, 0).key_down(Keys.SHIFT).click().key_up(Keys.SHIFT).perform()
    assert find(page, "line").is_displayed()
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not find(page, "walk").is_displayed()
    find(page, "scatter").send_keys(Keys.ENTER, Keys.ARROW_LEFT, Keys.ENTER)
    assert find(page, "line").is_displayed()


def test_the_address_keeps_the_point_and_each_tab_its_pins(page):
    state = "return [plane.name, plane.pins.length]"
    mouse(page, 40, 40).click().perform()
    find(page, "pin").click()
    where = find(page, "place").text
    find(page, "tab-autoencoder").send_keys(Keys.ARROW_RIGHT)
    assert page.execute_script(state) == ["vae", 0]
    find(page, "sample").click()
    once = decoded(page)
    find(page, "sample").click()
    assert decoded(page) != once, "the prior is not sampled"
    find(page, "tab-vae").send_keys(Keys.ARROW_LEFT)
    assert page.execute_script(state) == ["autoencoder", 1]
    assert find(page, "place").text == where
    assert not find(page, "sample").is_displayed()
    wait(page, lambda _: where[1:-1].replace(" ", "") in page.current_url)
    page.refresh()
    wait(page, lambda _: find(page, "digit").text)
    assert find(page, "place").text == where
    page.execute_script("location.hash = '#vae/900,1'")  # as typed; it stays in the plane
    wait(page, lambda _: page.execute_script("return plane.name") == "vae")
    assert page.execute_script("return plane.here[0] <= limits()[0][1] && plane.here[1] === 1")


def test_a_polite_live_region_says_the_position_and_the_digit(page):
    live = find(page, "live")
    assert live.get_attribute("aria-live") == "polite"
    find(page, "scatter").send_keys(Keys.ARROW_RIGHT)
    a, b = find(page, "place").text[1:-1].split(", ")
    said = f"h1 {a}, h2 {b}, near {find(page, 'digit').text}"
    wait(page, lambda _: live.get_property("textContent") == said)
    draw(page, *SEVEN)
    assert find(page, "live").get_property("textContent") == "read as a 7, 100 %"


def denoised(page, name):
    """Choose an image of the Denoising tab; return its last loss when the steps have ended."""
    buttons = page.find_elements("css selector", "#examples button")
    next(button for button in buttons if button.text == name).click()
    wait(page, lambda _: find(page, "play").is_enabled())
    return float(find(page, "loss").text)


def psnr_of(page, name):
    return float(find(page, f"{name}-note").text.split()[-2])


def test_the_estimates_of_the_examples_end_where_those_of_pytorch_do(page, mnist):
    find(page, "tab-denoising").click()
    vae, x_noisy, x_clean = network("vae16"), mnist.x_noisy_example, mnist.x_clean_example
    z_init = predict(vae.encode, x_noisy)
    two = [3, 8]
    *_, losses = map_estimate(vae.decode, x_noisy[two], 16, 0.0625, z_init[two], iterations=200)
    for digit, loss in zip(two, losses[-1], strict=True):
        found = denoised(page, str(digit))
        assert found == pytest.approx(loss.item(), abs=0.05), digit
        expected = psnr(x_noisy[digit], x_clean[digit])
        assert psnr_of(page, "noisy") == pytest.approx(expected, abs=0.1), digit
    assert_shown(page, "output", predict(vae.reconstruct, x_noisy)[digit])
    slider, iteration = find(page, "frames"), find(page, "iteration")
    last, curve = iteration.text, picture(page, "curve")
    slider.send_keys(Keys.HOME)
    assert iteration.text == "0"
    assert float(find(page, "loss").text) > found
    assert np.array_equal(picture(page, "estimate"), picture(page, "output"))
    assert not np.array_equal(picture(page, "curve"), curve)
    find(page, "play").click()
    wait(page, lambda _: iteration.text == last)


def test_a_drawn_digit_is_denoised_with_noise_of_any_strength(page):
    draw(page, (20, -85), (-15, 85))  # a 1, which takes few iterations
    find(page, "tab-denoising").click()
    denoised(page, "your digit")
    assert np.array_equal(picture(page, "clean"), picture(page, "prepared"))
    weak = psnr_of(page, "noisy")
    assert weak == pytest.approx(12, abs=0.5)
    assert psnr_of(page, "estimate") > 18
    find(page, "noise").send_keys(Keys.ARROW_RIGHT)
    assert find(page, "deviation").text == "0.30"
    assert find(page, "beta").text == "0.0900"
    expected = weak - 20 * np.log10(0.3 / 0.25)
    assert psnr_of(page, "noisy") == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("size", [(1920, 1080), (1400, 900), (800, 600), (844, 390), (390, 844)])
def test_every_size_shows_the_image_beside_the_plane_and_targets_for_fingers(page, size):
    resize(page, *size)
    for tab in ("denoising", "autoencoder"):
        find(page, f"tab-{tab}").click()
        assert page.execute_script("return document.documentElement.scrollWidth") <= size[0]
        assert page.execute_script(SMALL) == []
    plane, image = (find(page, name).rect for name in ("scatter", "decoded"))
    assert 230 < plane["height"] == plane["width"]
    beside = image["x"] > plane["x"] + plane["width"] and image["y"] < plane["y"] + 20
    above = image["y"] + image["height"] < plane["y"] > plane["y"] + plane["height"] - size[1]
    assert beside or above
    if size[1] >= 844:  # the first screen
        assert plane["y"] + plane["height"] < size[1]
