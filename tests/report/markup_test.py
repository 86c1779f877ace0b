#!/usr/bin/env python3
"""The pages of report_sample as markup: well-formed, self-contained, and with all charts in both widths.

usage: markup_test.py REPORT_SAMPLE [unittest options]
"""
import html.parser
import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

SAMPLE = None
EMPTY_TAGS = {"meta"}


class Page(html.parser.HTMLParser):
    """Elements by tag with their attributes, and what is not nested as it should be."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.mistakes = [], [], []
        self.feed(text)
        self.close()
        self.mistakes += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(f"</{tag}> at {self.getpos()}")

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def sample(*options):
    with tempfile.TemporaryDirectory(prefix="tandem-report-") as folder:
        path = os.path.join(folder, "page.html")
        subprocess.run([SAMPLE, path, *options], check=True, timeout=60)
        with open(path, encoding="utf-8", errors="strict") as file:
            return file.read()


class Markup(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.texts = {"realistic": sample(), "stress": sample("--stress")}
        cls.pages = {name: Page(text) for name, text in cls.texts.items()}

    def test_elements_are_nested(self):
        for name, page in self.pages.items():
            self.assertEqual(page.mistakes, [], name)

    def test_every_picture_is_well_formed_xml(self):
        for name, text in self.texts.items():
            pictures = re.findall(r"<svg.*?</svg>", text, re.S)
            self.assertEqual(len(pictures), 2 * len(self.pages[name].all("figure")))
            for picture in pictures:
                xml.dom.minidom.parseString(picture)

    def test_every_figure_has_a_caption_and_every_picture_a_description(self):
        page = self.pages["realistic"]
        self.assertEqual(len(page.all("figure")), 6)
        self.assertEqual(len(page.all("figcaption")), 6)
        for picture in page.all("svg"):
            self.assertEqual(picture["role"], "img")
            self.assertTrue(picture["aria-label"])

    def test_nothing_is_loaded_and_nothing_runs(self):
        for name, text in self.texts.items():
            page = self.pages[name]
            for tag in ("script", "link", "img", "iframe", "object", "embed", "image", "use", "foreignobject", "base"):
                self.assertEqual(page.all(tag), [], tag)
            for tag, attributes in page.elements:
                for attribute, value in attributes.items():
                    self.assertFalse(attribute.startswith("on"), (tag, attribute))
                    if attribute in ("href", "src", "xlink:href", "srcset"):
                        self.assertRegex(value, r"\A#section-\d+\Z")
            self.assertNotRegex(text, r"url\(|@import|https?://|src=")

    def test_coordinates_are_numbers_inside_the_picture(self):
        for text in self.texts.values():
            for picture in re.findall(r"<svg.*?</svg>", text, re.S):
                root = xml.dom.minidom.parseString(picture).documentElement
                width, height = (float(root.getAttribute(name)) for name in ("width", "height"))
                self.assertEqual(root.getAttribute("viewBox"),
                                 f"0 0 {root.getAttribute('width')} {root.getAttribute('height')}")
                for x, y in self.points_of(root):
                    self.assertTrue(-0.01 <= x <= width + 0.01 and -0.01 <= y <= height + 0.01, (x, y, width, height))

    def points_of(self, root):
        for shape in root.getElementsByTagName("*"):
            value = lambda name: float(shape.getAttribute(name))
            if shape.tagName == "line":
                yield from ((value("x1"), value("y1")), (value("x2"), value("y2")))
            elif shape.tagName in ("polyline", "polygon"):
                for point in shape.getAttribute("points").split():
                    yield tuple(map(float, point.split(",")))
            elif shape.tagName == "circle":
                yield value("cx"), value("cy")
            elif shape.tagName == "rect":
                self.assertGreaterEqual(value("width"), 0)
                self.assertGreaterEqual(value("height"), 0)
                yield value("x"), value("y")
                yield value("x") + value("width"), value("y") + value("height")

    def test_bad_bytes_and_markup_of_names_are_text(self):
        text = self.texts["stress"]
        self.assertIn("a broken byte: \ufffd, an unpaired ` backtick", text)
        self.assertIn("a name with &lt;markup&gt; &amp; &quot;quotes&quot;", text)
        self.assertNotIn("<markup>", text)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    SAMPLE = sys.argv.pop(1)
    unittest.main()
