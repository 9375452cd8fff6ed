#!/usr/bin/env python3
"""Reads what `vadlite` attaches to every frame, with GStreamer and nothing else.

    GST_PLUGIN_PATH=target/release python3 docs/examples/read_meta.py part.vadlite [SOURCE]

SOURCE is a description for gst-launch-1.0 that ends in raw video, by default a test picture; a camera: "v4l2src ! videoconvert".
Prints one line per frame. Needs the packages python3-gi and gir1.2-gstreamer-1.0.
"""

import struct
import sys
import warnings

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

# Arrays come as GValueArray, which GLib calls deprecated and GStreamer uses all the same.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*ValueArray")


def field(structure, name):
    """A field of a structure, whatever its type."""
    return structure.get_value(name)


def regions(structure):
    """The parts that look wrong, strongest first: x, y, w, h in 0..1 of the frame, and the score."""
    found, array = structure.get_array("regions")
    boxes = [array.get_nth(index) for index in range(array.n_values)] if found else []
    return [{name: field(box, name) for name in ("x", "y", "w", "h", "score")} for box in boxes]


def anomaly_map(structure):
    """Width, height and the values row by row; None for a frame that was not inspected."""
    if not structure.has_field("map"):
        return None
    data = field(structure, "map").get_data()
    width, height = field(structure, "map-width"), field(structure, "map-height")
    return width, height, struct.unpack(f"<{width * height}f", data)


def on_frame(pad, info):
    meta = info.get_buffer().get_custom_meta("GstVadLiteMeta")
    if meta is None:
        return Gst.PadProbeReturn.OK
    result = meta.get_structure()
    line = f"frame {field(result, 'frame')}: "
    if field(result, "inspected"):
        width, height, values = anomaly_map(result)
        line += f"score {field(result, 'score'):.4f}, threshold {field(result, 'threshold'):.4f}, "
        line += f"{'flagged' if field(result, 'flagged') else 'good'}, map {width}x{height} up to {max(values):.4f}"
    else:
        line += "not inspected"
    print(f"{line}, model {field(result, 'model')}, {field(result, 'latency') / 1e6:.1f} ms")
    for region in regions(result):
        print("  region {x:.3f},{y:.3f} {w:.3f}x{h:.3f} score {score:.4f}".format(**region))
    return Gst.PadProbeReturn.OK


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = sys.argv[2] if len(sys.argv) == 3 else "videotestsrc num-buffers=10 ! video/x-raw,width=640,height=480"
    Gst.init(None)
    # The probe sits far behind the element, on frames of another format and size: the result stays with them.
    pipeline = Gst.parse_launch(f"{source} ! vadlite name=inspector ! queue ! videoconvert ! videoscale ! video/x-raw,width=320,height=240 ! fakesink name=sink")
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
