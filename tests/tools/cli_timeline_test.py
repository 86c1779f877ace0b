#!/usr/bin/env python3
"""tandem run --timeline: a file that Perfetto opens, with everything that the steps did.

usage: cli_timeline_test.py TANDEM_BINARY DATA_FOLDER [unittest options]
"""
import collections
import json
import os

import cli_case
from cli_case import BAD_USAGE, FAILED, OK, CommandLine

STEPS, KV_HEADS = 6, 2


def end(event):
    return event["ts"] + event["dur"]


class Timeline(CommandLine):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.file = cls.path("timeline.json")
        result = cli_case.tandem("run", "--trace", cls.trace, "--warm", "--always-select", "--selector", "lsh", "--threads", 3,
                                 "--timeline", cls.file)
        assert result.returncode == OK, result.stderr
        with open(cls.file) as text:
            cls.events = json.load(text)
        cls.spans = [event for event in cls.events if event["ph"] == "X"]

    def named(self, name):
        return [span for span in self.spans if span["name"] == name]

    def test_events_are_those_of_the_format(self):
        threads = set()
        for event in self.events:
            self.assertIn(event["ph"], "XM")
            self.assertIsInstance(event["pid"], int)
            self.assertIsInstance(event["args"], dict)
            if event["ph"] == "X":
                self.assertGreaterEqual(event["ts"], 0)
                self.assertGreaterEqual(event["dur"], 0)
                self.assertIn(event["tid"], threads)
            elif event["name"] == "thread_name":
                threads.add(event["tid"])
        names = {event["name"]: event["args"] for event in self.events if event["ph"] == "M"}
        self.assertEqual(names["process_name"], {"name": "tandem"})
        self.assertEqual(set(names["tandem_timeline"]), {"dropped_spans", "start_ns"})
        self.assertEqual(names["tandem_timeline"]["dropped_spans"], 0)

    def test_spans_nest_on_each_thread(self):
        threads = collections.defaultdict(list)
        for span in self.spans:
            threads[span["tid"]].append(span)
        for spans in threads.values():
            open_spans = []
            for span in spans:
                while open_spans and end(open_spans[-1]) <= span["ts"]:
                    open_spans.pop()
                if open_spans:
                    self.assertLessEqual(end(span), end(open_spans[-1]) + 1e-6)
                open_spans.append(span)

    def test_every_step_is_there_and_holds_the_work_of_its_workers(self):
        calls = {span["args"]["call"]: span for name in ("td_append", "td_attend") for span in self.named(name)}
        steps = self.named("td_attend")
        layers = {span["args"]["layer"] for span in steps}
        self.assertEqual(len(steps), STEPS * len(layers))
        for span in self.spans:
            call = calls[span["args"]["call"]]
            self.assertGreaterEqual(span["ts"], call["ts"])
            self.assertLessEqual(end(span), end(call) + 1e-6)
        positions = sorted({span["args"]["position"] for span in self.named("select")})
        self.assertEqual(positions, list(range(700, 700 + STEPS)))
        for name in ("window", "select", "attend", "merge"):
            tasks = {(span["args"]["layer"], span["args"]["position"], span["args"]["kv_head"]) for span in self.named(name)}
            self.assertEqual(tasks, {(layer, position, head) for layer in layers for position in positions
                                     for head in range(KV_HEADS)})
        for name in ("append", "select", "attend", "merge"):
            for span in self.named(name):
                self.assertLessEqual({"call", "sequence", "layer", "kv_head", "rows", "bytes"}, set(span["args"]))

    def test_nothing_else_is_left(self):
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("timeline")], ["timeline.json"])

    def test_refusals_come_first(self):
        self.expect(FAILED, "run", "--trace", self.trace, "--timeline", self.path("no", "t.json"),
                    naming=("--timeline", self.path("no", "t.json")))
        self.expect(FAILED, "run", "--trace", self.trace, "--timeline", self.folder, naming=(self.folder, "folder"))
        self.expect(BAD_USAGE, "run", "--trace", self.trace, "--timeline", "-", naming=("--timeline", "'-'"))


if __name__ == "__main__":
    cli_case.main()
