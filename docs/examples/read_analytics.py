#!/usr/bin/env python3
"""Reads what a `vadlite` that was built with the feature `analytics` attaches, with GstAnalytics alone: no name of vadlite's is used.

    GST_PLUGIN_PATH=target/release python3 docs/examples/read_analytics.py part.vadlite [SOURCE]

Prints one line a frame: the class with the highest confidence and its level, then the objects: type, x, y, width and height in pixels,
confidence. Needs GStreamer 1.24 or newer and the packages python3-gi and gir1.2-gst-plugins-bad-1.0.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstAnalytics", "1.0")
from gi.repository import GLib, Gst, GstAnalytics  # noqa: E402


def on_frame(pad, info):
    meta = GstAnalytics.buffer_get_analytics_relation_meta(info.get_buffer())
    classes, objects = [], []
    for number in range(GstAnalytics.relation_get_length(meta) if meta else 0):
        found, classification = meta.get_cls_mtd(number)
        if found:
            for index in range(classification.get_length()):
                classes.append((classification.get_level(index), GLib.quark_to_string(classification.get_quark(index))))
        found, detection = meta.get_od_mtd(number)
        if found:
            _, x, y, width, height, confidence = detection.get_location()
            kind = GLib.quark_to_string(detection.get_obj_type())
            objects.append(f"{kind} {x},{y} {width}x{height} {confidence:.3f}")
    # A frame that was not inspected has no class.
    verdict = "{1} {0:.3f}".format(*max(classes)) if classes else "nothing"
    print("; ".join([verdict, *objects]))
    return Gst.PadProbeReturn.OK


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = sys.argv[2] if len(sys.argv) == 3 else "videotestsrc num-buffers=10 ! video/x-raw,width=640,height=480"
    Gst.init(None)
    pipeline = Gst.parse_launch(f"{source} ! vadlite name=inspector ! queue ! fakesink name=sink")
    pipeline.get_by_name("inspector").set_property("model", sys.argv[1])
    pipeline.get_by_name("sink").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_frame)
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, Gst.MessageType.ERROR | Gst.MessageType.EOS)
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        error, _ = message.parse_error()
        sys.exit(f"{message.src.get_name()}: {error.message}")


if __name__ == "__main__":
    main()
