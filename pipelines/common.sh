# shellcheck shell=sh
# What the pipelines in this folder share; sourced by them, not started.
#
# Every pipeline:
#   - shows the frames with the heatmap on flagged ones and prints a line for each flagged frame,
#   - finds the plugin and the program that `cargo build --release` made in this source tree, or the installed ones,
#   - takes from the environment
#       VADLITE_SOURCE    a piece of gst-launch pipeline in place of the camera or file, e.g. "videotestsrc num-buffers=50"
#       VADLITE_SINK      the same in place of the screen, e.g. "fakesink" or "videoconvert ! jpegenc ! avimux ! filesink location=x.avi"
#       VADLITE_OPTIONS   more properties of the element, e.g. "threads=2 interval=3 overlay=contour"
#       VADLITE_PRINT=1   print the pipeline and stop
# Ctrl-C ends a pipeline cleanly (end of stream, so that files are complete).

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# The first lines of the script that was started, as its help.
usage() {
    sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p;}' "$0"
}

# arguments MINIMUM MAXIMUM "$@": help when asked for; a wrong number of arguments is a usage error.
arguments() {
    minimum=$1 maximum=$2
    shift 2
    case ${1:-} in -h | --help)
        usage
        exit 0
        ;;
    esac
    if [ $# -lt "$minimum" ] || [ $# -gt "$maximum" ]; then
        usage >&2
        exit 2
    fi
}

# The file's absolute path: pipelines may run in another folder.
absolute() {
    case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$PWD" "$1" ;;
    esac
}

# use_model FILE: finds the plugin and sets `model`, or ends with a message.
use_model() {
    find_plugin
    [ -f "$1" ] || die "there is no model file $1. Fit one: vadlite fit --images GOOD_DIR --out $1"
    model=$(absolute "$1")
}

# Without a version gst-inspect-1.0 asks for GStreamer's own, which other projects' elements do not have.
exists() {
    gst-inspect-1.0 --exists --atleast-version=0.0 "$1"
}

# need ELEMENT HINT: ends with a message when GStreamer has no such element.
need() {
    exists "$1" || die "GStreamer has no element '$1'. $2"
}

# Makes GStreamer find the element: as it is set up, or from this source tree.
find_plugin() {
    command -v gst-launch-1.0 >/dev/null || die "gst-launch-1.0 is missing. Run ./setup (Debian: apt-get install gstreamer1.0-tools)"
    exists vadlite && return
    built=$(cd "$(dirname "$0")/.." && pwd)/target/release
    if [ -f "$built/libgstvadlite.so" ]; then
        export GST_PLUGIN_PATH="$built${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
        PATH=$built:$PATH
    fi
    need vadlite "Build it (cargo build --release), or set GST_PLUGIN_PATH to the folder of libgstvadlite.so"
}

# print_scores: turns the bus messages that `gst-launch-1.0 -m` prints into one line a frame. When `frame_names`
# is set (a file with a name a line) the lines begin with the frame's name instead of its number.
print_scores() {
    sed -u -n '/^Progress: (learn)/p
    /(element): vadlitetrigger,/s/.*vadlitetrigger, \(.*\);$/gate: \1/p
    /(element): vadliterecord,/s/.*vadliterecord, location=(string)\([^,]*\),.*/recorded \1/p
    /(element): vadlite,/{
        s/.*(element): vadlite,/,/
        s/ regions=(structure)<[^>]*>//
        s/^\(.*\) frame=(guint64)\([0-9]*\)/frame \2|\1/
        s/|\(.*\) score=(double)\([^,;]*\)/  score \2|\1/
        s/|\(.*\) threshold=(double)\([^,;]*\)/  threshold \2|\1/
        s/|\(.*\) flagged=(boolean)\([a-z]*\).*/  flagged \2/p
    }' | if [ -n "${frame_names:-}" ]; then
        awk 'NR == FNR { name[n++] = $0; next } { sub(/^frame [0-9]+/, name[$2]); print; fflush() }' "$frame_names" -
    else
        cat
    fi
}

# inspect SOURCE…: runs SOURCE… ! vadlite ! sink, prints the frames that the element reports, returns gst-launch-1.0's
# exit code. SOURCE… is a gst-launch pipeline, one word an argument. `after` stands between vadlite and the sink; `sink`
# replaces the screen; with `sink_file` the pipeline ends in that file.
inspect() {
    set -f
    # shellcheck disable=SC2086 # the overrides are lists of words
    set -- "$@" ! videoconvert ! vadlite "model=$model" ${options:-} ${VADLITE_OPTIONS:-} ! ${after:-}
    if [ -n "${VADLITE_SINK:-}" ]; then
        # shellcheck disable=SC2086
        set -- "$@" $VADLITE_SINK
    else
        # shellcheck disable=SC2086
        set -- "$@" ${sink:-queue ! videoconvert ! autovideosink} ${sink_file:+! filesink "location=$sink_file"}
    fi
    set +f
    if [ -n "${VADLITE_PRINT:-}" ]; then
        echo "gst-launch-1.0 -e $*"
        return 0
    fi
    # gst-launch-1.0 handles Ctrl-C itself; the shell and the filter must outlive it.
    trap '' INT
    exec 4>&1
    status=$({ {
        code=0
        gst-launch-1.0 -e -m "$@" || code=$?
        echo "$code" >&3
    } | print_scores >&4; } 3>&1)
    exec 4>&-
    return "$status"
}

# need_camera DEVICE: ends with a message when V4L2 has no such camera; not where the pipeline is only printed.
need_camera() {
    [ -z "${VADLITE_PRINT:-}" ] || return 0
    need v4l2src "Install GStreamer's good plugins (gstreamer1.0-plugins-good)."
    [ -e "$1" ] || die "there is no camera $1. Give another device, e.g. /dev/video2"
}

# inspect_camera DEVICE: inspects what a V4L2 camera sees, or what VADLITE_SOURCE names; frames that wait are replaced by newer ones.
inspect_camera() {
    [ -n "${VADLITE_SOURCE:-}" ] || need_camera "$1"
    set -f
    # shellcheck disable=SC2086 # a list of words
    set -- ${VADLITE_SOURCE:-v4l2src device=$1}
    set +f
    inspect "$@" ! queue leaky=downstream max-size-buffers=2
}

# stage_images FOLDER: reads file names from standard input, one a line, and lays the pictures out in FOLDER so that
# one pipeline can read them whatever their types and sizes: FOLDER/png/%06d, FOLDER/jpeg/%06d and, in the order of the
# frames, FOLDER/names. Other types than PNG and JPEG are converted with ImageMagick; what cannot be read is named and
# left out. Sets `image_source`, the pipeline's beginning, to be run inside FOLDER.
stage_images() {
    stage=$1
    rm -rf "${stage:?}/png" "$stage/jpeg" "$stage/other"
    mkdir -p "$stage/png" "$stage/jpeg" "$stage/other"
    : >"$stage/names.png"
    : >"$stage/names.jpeg"
    pngs=0 jpegs=0
    while IFS= read -r picture; do
        picture=$(absolute "$picture")
        case $(od -A n -t x1 -N 4 "$picture" 2>/dev/null) in
        ' 89 50 4e 47'*) link=$picture ;;
        ' ff d8 ff'*)
            ln -s "$picture" "$stage/jpeg/$(printf %06d "$jpegs")"
            printf '%s\n' "$picture" >>"$stage/names.jpeg"
            jpegs=$((jpegs + 1))
            continue
            ;;
        *)
            link=
            if mogrify -format png -path "$stage/other" "${picture}[0]" 2>/dev/null </dev/null; then
                for link in "$stage/other"/*.png; do :; done
                [ -f "$link" ] && mv "$link" "$stage/other/$(printf %06d "$pngs")" && link=../other/$(printf %06d "$pngs")
            fi
            if [ -z "$link" ] || [ ! -e "$stage/png/$link" ]; then
                echo "$(basename "$0"): warning: $picture is no picture that can be read (other types than PNG and JPEG need ImageMagick); skipped" >&2
                continue
            fi
            ;;
        esac
        ln -s "$link" "$stage/png/$(printf %06d "$pngs")"
        printf '%s\n' "$picture" >>"$stage/names.png"
        pngs=$((pngs + 1))
    done
    cat "$stage/names.png" "$stage/names.jpeg" >"$stage/names"
    [ -s "$stage/names" ] || die "there is no picture to inspect"

    # A stream for each type, one after the other.
    image_source="concat name=pictures"
    rate=${frames_per_second:-10}
    [ "$pngs" -eq 0 ] || image_source="$image_source multifilesrc location=png/%06d caps=image/png,framerate=$rate/1 ! pngdec ! videoconvert ! pictures."
    [ "$jpegs" -eq 0 ] || image_source="$image_source multifilesrc location=jpeg/%06d caps=image/jpeg,framerate=$rate/1 ! jpegdec ! videoconvert ! pictures."
    image_source="$image_source pictures."
}

# list_images FOLDER: the pictures in it and below, sorted, one a line; links are followed.
list_images() {
    find -L "$1" -type f \( -iname '*.png' -o -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.bmp' -o -iname '*.tif' \
        -o -iname '*.tiff' -o -iname '*.webp' -o -iname '*.pgm' -o -iname '*.ppm' \) | LC_ALL=C sort
}
