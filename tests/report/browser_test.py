#!/usr/bin/env python3
"""What a browser makes of the pages of report_sample, and of those that commands write: pictures that are not blank, in light
and dark, and no text that leaves its picture or lies on another one. Skipped (exit status 77) without chromium.

usage: browser_test.py REPORT_SAMPLE TANDEM_BINARY [unittest options]
"""
import html
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from png import read_png  # noqa: E402: the setting comes first

SAMPLE = TANDEM = None
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Measures every text of every picture that is shown: the corners of its box in the picture's pixels, turned as it is.
MEASURE = """
<script>
addEventListener("load", () => {
  const pictures = [...document.querySelectorAll("svg")].filter(svg => svg.getClientRects().length).map(svg => {
    const inverse = svg.getScreenCTM().inverse();
    const texts = [...svg.querySelectorAll("text")].map(text => {
      const box = text.getBBox(), matrix = inverse.multiply(text.getScreenCTM());
      const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([x, y]) => {
        const point = new DOMPoint(box.x + x * box.width, box.y + y * box.height).matrixTransform(matrix);
        return [point.x, point.y];
      });
      return {text: text.firstChild.data, corners};
    });
    const view = svg.viewBox.baseVal;
    return {name: svg.getAttribute("aria-label"), width: view.width, height: view.height, texts};
  });
  const result = document.createElement("pre");
  result.id = "measured";
  result.textContent = JSON.stringify({pictures, body: document.documentElement.scrollWidth, window: innerWidth});
  document.body.append(result);
});
</script>
"""


def separated(a, b, slack):
    """Whether two convex quadrilaterals overlap by no more than `slack` along some edge's normal."""
    for corners in (a, b):
        for i in range(2):
            (x0, y0), (x1, y1) = corners[i], corners[i + 1]
            length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
            if length == 0:
                return True
            normal = ((y0 - y1) / length, (x1 - x0) / length)
            along = [[x * normal[0] + y * normal[1] for x, y in box] for box in (a, b)]
            if max(along[0]) <= min(along[1]) + slack or max(along[1]) <= min(along[0]) + slack:
                return True
    return False


class Browser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="tandem-browser-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        for name, options in (("realistic", []), ("stress", ["--stress"])):
            subprocess.run([SAMPLE, cls.folder / f"{name}.html", *options], check=True, timeout=60)

    def browse(self, page, *options):
        """Without any network: a page that asked for something would show up as an error of the loader."""
        command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--disable-sync",
                   "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={self.folder / 'profile'}", *options,
                   page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout

    def screenshot(self, width, height, *options):
        path = self.folder / "picture.png"
        path.unlink(missing_ok=True)
        self.browse(self.folder / "realistic.html", f"--screenshot={path}", f"--window-size={width},{height}", *options)
        return read_png(path)

    def measured(self, page, widths):
        """In frames of these widths: a window of a browser cannot be as narrow as a telephone's."""
        text = (self.folder / f"{page}.html").read_text(encoding="utf-8")
        framed = self.folder / f"{page}-framed.html"
        framed.write_text(text.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
        frames = "".join(f'<iframe src="{framed.name}" style="border:0;width:{width}px;height:900px"></iframe>'
                         for width in widths)
        outer = self.folder / "outer.html"
        script = ("addEventListener('load', () => { for (const frame of document.querySelectorAll('iframe'))"
                  " document.body.append(frame.contentDocument.getElementById('measured').cloneNode(true)); });")
        outer.write_text(f"<body>{frames}<script>{script}</script>")
        dump = self.browse(outer, "--allow-file-access-from-files", "--dump-dom", "--window-size=1300,900")
        found = re.findall(r'<pre id="measured">(.*?)</pre>', dump, re.S)
        self.assertEqual(len(found), len(widths), dump[-2000:])
        return [json.loads(html.unescape(text)) for text in found]

    def check_texts(self, page, widths, pictures):
        for width, result in zip(widths, self.measured(page, widths)):
            self.assertEqual(result["window"], width)
            self.assertEqual(result["body"], width, "the page is wider than its window")
            self.check_pictures(f"{page} at {width}", result, pictures)

    def check_pictures(self, page, result, pictures):
        self.assertEqual(len(result["pictures"]), pictures)
        for picture in result["pictures"]:
            name = f"{picture['name']} of {page}"
            self.assertGreater(len(picture["texts"]), 0, name)
            for text in picture["texts"]:
                for x, y in text["corners"]:
                    self.assertTrue(-0.5 <= x <= picture["width"] + 0.5 and -0.5 <= y <= picture["height"] + 0.5,
                                    f"{name}: '{text['text']}' reaches ({x:.1f}, {y:.1f})")
            for i, one in enumerate(picture["texts"]):
                for other in picture["texts"][:i]:
                    self.assertTrue(separated(one["corners"], other["corners"], 0.5),
                                    f"{name}: '{one['text']}' lies on '{other['text']}'")

    def test_texts_of_real_charts(self):
        self.check_texts("realistic", (1200, 700, 400, 320), 6)

    def test_texts_of_charts_under_stress(self):
        self.check_texts("stress", (1200, 400), 30)

    def check_command(self, name, pictures, *command):
        page = self.folder / f"{name}.html"
        subprocess.run([TANDEM, *command, "--html", page], check=True, timeout=300, stdout=subprocess.DEVNULL)
        text = page.read_text(encoding="utf-8")
        self.assertNotRegex(text, r'(src|href)\s*=\s*"?(https?:)?//|url\(|@import')
        self.check_texts(name, (1200, 400), pictures)

    def test_page_of_a_plan(self):
        self.check_command("plan", 3, "plan", "l40s", "--model", "llama-3.1-8b", "--context", "8K,32K,128K", "--batch", "1,4")

    def test_page_of_a_comparison(self):
        self.check_command("comparison", 4, "plan", "compare", "v100-32", "a100-40", "--model", "llama-3.1-8b", "--context",
                           "32K,96K,128K", "--batch", "auto")

    def test_page_of_a_profile(self):
        self.check_command("profile", 2, "profile", "--quick", "--no-costs")

    def test_page_of_splits(self):
        self.check_command("splits", 2, "profile", "split", "--layers", "2", "--q-heads", "4", "--kv-heads", "2", "--head-dim",
                           "64", "--context", "3K", "--fit-context", "2K,4K", "--threads", "1", "--steps", "3", "--selectors",
                           "all,sketch1:0.05,sketch1:0.2")

    def test_wide_pictures_show_in_light_and_dark(self):
        for options, least, most in (((), 200, 255), (("--blink-settings=preferredColorScheme=0",), 0, 60)):
            width, height, rows = self.screenshot(700, 1200, *options)
            self.assertEqual((width, height), (700, 1200))
            paper = rows[5][5]
            self.assertTrue(all(least <= channel <= most for channel in paper), paper)
            # Every part of the page has something on it, and the charts are in colour.
            for top in range(0, height - 300, 300):
                colours = {pixel for row in rows[top:top + 300:3] for pixel in row[::3]}
                self.assertGreater(len(colours), 20, f"rows {top} to {top + 300}")
            vivid = {pixel for row in rows[::3] for pixel in row[::3] if max(pixel) - min(pixel) > 80}
            self.assertGreater(len(vivid), 50)

    def test_the_test_sees_texts_that_overlap(self):
        square = [[0, 0], [10, 0], [10, 10], [0, 10]]
        shifted = [[x + 6, y + 6] for x, y in square]
        apart = [[x + 10, y] for x, y in square]
        turned = [[5, 5], [12, 12], [5, 19], [-2, 12]]
        self.assertFalse(separated(square, shifted, 0.5))
        self.assertTrue(separated(square, apart, 0.5))
        self.assertFalse(separated(square, turned, 0.5))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    SAMPLE, TANDEM = sys.argv.pop(1), sys.argv.pop(1)
    if BROWSER is None:
        print("skipped: there is no chromium; tools/setup --tests installs it")
        sys.exit(77)
    unittest.main()
