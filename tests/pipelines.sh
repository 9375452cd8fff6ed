#!/bin/sh
# Runs every pipeline that README and the documents show and those in pipelines/, with a small model, a test picture in place of the camera
# and no screen; and the element with every format of its list.
#
#     sh tests/pipelines.sh
#
# Uses the plugin and the program in target/release, or those of the installation in VADLITE_PLUGINS and VADLITE_PROGRAMS.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
pipelines=$root/pipelines
# A space in the folder's name: every path must survive it.
work="$root/target/pipelines test"
rm -rf "$work"
mkdir -p "$work/good" "$work/mixed" "$work/test/good" "$work/test/snow"
cd "$work"

plugins=${VADLITE_PLUGINS:-$root/target/release}
programs=${VADLITE_PROGRAMS:-$root/target/release}
export GST_PLUGIN_PATH="$plugins" PATH="$programs:$PATH"
export GST_REGISTRY="$work/registry.bin"

passed=0
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
pass() {
    echo "ok: $*"
    passed=$((passed + 1))
}

# --- a model ------------------------------------------------------------------------------------------------------

part="pattern=smpte"
source_of() { echo "videotestsrc $1 num-buffers=${2:-20} ! video/x-raw,width=${3:-320},height=${4:-240},framerate=30/1"; }
# Launches words; quiet.
launch() {
    gst-launch-1.0 -q "$@" >launch.log 2>&1 || {
        cat launch.log >&2
        fail "gst-launch-1.0 $*"
    }
}
# shellcheck disable=SC2046
launch $(source_of "$part" 40) ! videoconvert ! pngenc ! multifilesink location=good/%03d.png
vadlite fit --method padim-lite --images good --out part.vadlite 2>fit.log || {
    cat fit.log >&2
    fail "vadlite fit"
}
pass "vadlite fit on generated pictures"

# --- the pipelines in README, the documents and the elements' texts ------------------------------------------------

python3 "$root/tests/shown.py" part.vadlite good || fail "a pipeline that is shown does not run"
pass "all pipelines that are shown"
# One that cannot run is found, as a command and within a line.
# shellcheck disable=SC2016 # as they stand in a text
for wrong in '    gst-launch-1.0 v4l2src ! nosuchelement ! autovideosink' 'text `gst-launch-1.0 v4l2src ! vadlite nosuchproperty=1 ! fakesink` text'; do
    printf '%s\n' "$wrong" >wrong.md
    ! python3 "$root/tests/shown.py" part.vadlite good wrong.md >wrong.log 2>&1 || fail "shown.py lets pass: $wrong"
    grep -q 'nosuch' wrong.log || fail "shown.py does not say what is wrong with: $wrong"
done
pass "pipelines that cannot run are found"

# --- the ready pipelines ------------------------------------------------------------------------------------------

# run NAME SCRIPT ARGUMENTS…: must end with 0 and report frames; VADLITE_SOURCE is set by the caller.
run() {
    name=$1 script=$2
    shift 2
    VADLITE_SINK=${VADLITE_SINK-fakesink} VADLITE_OPTIONS="post-messages=all" \
        sh "$pipelines/$script" "$@" >out.log 2>err.log || {
        cat out.log err.log >&2
        fail "$name"
    }
    frames=$(grep -c 'score [0-9.e+-]*  threshold [0-9.e+-]*  flagged \(true\|false\)$' out.log) || true
    [ "$frames" -gt 0 ] || {
        cat out.log err.log >&2
        fail "$name: no frame was reported"
    }
    pass "$name: $frames frames, $(grep -c 'flagged true$' out.log || true) flagged"
}

for script in usb-camera raspberry-pi jetson genicam; do
    case $script in
    raspberry-pi) source="videotestsrc $part num-buffers=20 ! video/x-raw,format=NV12,width=1280,height=720,framerate=15/1,colorimetry=bt709" ;;
    jetson) source="$(source_of "$part" 20 960 540) ! videoconvert" ;;
    genicam) source="$(source_of "$part" 20 640 480) ! videoconvert" ;;
    *) source=$(source_of "$part") ;;
    esac
    VADLITE_SOURCE=$source run "$script.sh" "$script.sh" part.vadlite
done
VADLITE_SOURCE="$(source_of "$part") ! videoconvert ! video/x-raw,format=I420 ! jpegenc ! rtpjpegpay" run rtsp.sh rtsp.sh part.vadlite rtsp://camera.example/stream

VADLITE_SOURCE="$(source_of "$part" 20)" run "usb-camera.sh sees what it was fitted on" usb-camera.sh part.vadlite
! grep -q 'flagged true' out.log || fail "the picture that the model was fitted on is flagged: $(cat out.log)"
VADLITE_SOURCE="$(source_of pattern=snow 20)" run "usb-camera.sh sees something else" usb-camera.sh part.vadlite
! grep -q 'flagged false' out.log || fail "a picture that is quite different is not flagged: $(cat out.log)"

# shellcheck disable=SC2046
launch $(source_of "$part") ! vp8enc deadline=1 ! webmmux ! filesink location="$work/a video.webm"
run video-file.sh video-file.sh part.vadlite "a video.webm"
[ "$frames" -eq 20 ] || fail "video-file.sh reported $frames of 20 frames"
VADLITE_SINK='' run "video-file.sh with a file to write" video-file.sh part.vadlite "a video.webm" "annotated video.mkv"
launch filesrc location="$work/annotated video.mkv" ! matroskademux ! vp8dec ! videoconvert ! pngenc ! multifilesink location=decoded-%03d.png
[ "$(find . -name 'decoded-*.png' | wc -l)" -eq 20 ] || fail "annotated video.mkv has not 20 frames"
pass "its file has 20 frames"

# shellcheck disable=SC2046
{
    launch $(source_of "$part" 1 300 300) ! videoconvert ! video/x-raw,format=GRAY8 ! pngenc ! filesink location="$work/mixed/a grey.png"
    launch $(source_of "$part" 1 640 480) ! videoconvert ! jpegenc ! filesink location="$work/mixed/b.jpg"
    launch $(source_of "$part" 1 500 380) ! videoconvert ! jpegenc ! filesink location="$work/mixed/c.jpeg"
    launch $(source_of "pattern=snow" 1 123 77) ! videoconvert ! pngenc ! filesink location="$work/mixed/d.png"
}
files=4
if command -v mogrify >/dev/null; then
    cp "mixed/a grey.png" "mixed/e.png"
    mogrify -resize 99x80 -format bmp "mixed/e.png"
    rm mixed/e.png
    files=5
fi
printf 'no picture' >mixed/f.png
run "image-folder.sh, mixed types and sizes" image-folder.sh part.vadlite mixed
[ "$frames" -eq "$files" ] || fail "image-folder.sh reported $frames of $files pictures: $(cat out.log)"
grep -q 'a grey.png  score' out.log || fail "image-folder.sh does not name the files: $(cat out.log)"
grep -q 'mixed/d.png  score .*flagged true' out.log || fail "image-folder.sh does not flag d.png: $(cat out.log)"
grep -q 'f.png .* skipped' err.log || fail "image-folder.sh does not name the damaged file: $(cat err.log)"
VADLITE_SINK='' run "image-folder.sh with a folder to write" image-folder.sh part.vadlite mixed "out folder"
[ "$(find "out folder" -name '*.png' | wc -l)" -eq "$files" ] || fail "out folder has not $files pictures"

VADLITE_SOURCE="$(source_of "$part")" run "inspect.sh, a camera" inspect.sh part.vadlite
run "inspect.sh, a video" inspect.sh part.vadlite "a video.webm"
[ "$frames" -eq 20 ] || fail "inspect.sh reported $frames of 20 frames"
run "inspect.sh, a folder" inspect.sh part.vadlite mixed
[ "$frames" -eq "$files" ] || fail "inspect.sh reported $frames of $files pictures: $(cat out.log)"

# --- learning, the gate, the recording ------------------------------------------------------------------------------

# A ball that sweeps over the picture, as parts pass on a belt.
belt() { echo "videotestsrc is-live=true pattern=ball motion=sweep background-color=0xff404040 num-buffers=$1 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1"; }

VADLITE_SOURCE=$(belt 150) run "learn.sh" learn.sh learnt.vadlite 40
grep -q '^Progress: (learn) 1[0-9] of 40 frames' out.log || fail "learn.sh does not say how far it is: $(cat out.log)"
grep -q '^Progress: (learn) the model is learnt' out.log || fail "learn.sh does not end its learning: $(cat out.log)"
vadlite info learnt.vadlite >/dev/null || fail "learn.sh's model"

VADLITE_SOURCE="$(source_of pattern=snow 60)" run "record-flagged.sh" record-flagged.sh part.vadlite "recordings here"
[ "$(find "recordings here" -name 'incident-*.mkv' | wc -l)" -eq 1 ] || fail "record-flagged.sh made not one recording: $(ls "recordings here")"
grep -q '^recorded .*incident-.*mkv' out.log || fail "record-flagged.sh does not name its recording: $(cat out.log)"

VADLITE_SOURCE="$(source_of pattern=snow 30 | sed 's/videotestsrc/videotestsrc is-live=true/')" run "reject-gate.sh, MQTT without a broker" reject-gate.sh part.vadlite mqtt://127.0.0.1:9/line/1 10
grep -q '^gate: part=' out.log || fail "reject-gate.sh does not fire: $(cat out.log)"
VADLITE_SOURCE="$(source_of "$part" 30 | sed 's/videotestsrc/videotestsrc is-live=true/')" run "reject-gate.sh, Modbus, good parts" reject-gate.sh part.vadlite modbus-tcp://127.0.0.1:9/1
! grep -q '^gate: ' out.log || fail "reject-gate.sh fires for good parts: $(cat out.log)"

# --- the pipelines' own sources, with stand-ins for the hardware's elements -----------------------------------------

for script in usb-camera raspberry-pi jetson genicam; do
    VADLITE_PRINT=1 VADLITE_SINK=fakesink sh "$pipelines/$script.sh" "part.vadlite" >print.log || fail "$script.sh, printed"
    # Caps and links stay as they are written; the model's path has a space.
    standin=$(sed -e 's/^gst-launch-1.0 -e //' -e 's/model=.*part.vadlite/model=part.vadlite/' -e 's/(memory:NVMM)//' -e 's/nvvidconv/videoconvert ! videoscale/' \
        -e 's/v4l2src device=[^ ]*/videotestsrc num-buffers=5/' -e 's/nvarguscamerasrc sensor-id=0/videotestsrc num-buffers=5/' \
        -e 's/\(libcamerasrc\|aravissrc\)/videotestsrc num-buffers=5/' print.log)
    # shellcheck disable=SC2086
    launch $standin
    pass "$script.sh: its own source parses and links"
done

# --- wrong use ----------------------------------------------------------------------------------------------------

for script in "$pipelines"/*.sh; do
    name=$(basename "$script")
    [ "$name" != common.sh ] || continue
    sh "$script" --help >help.log 2>&1 || fail "$name --help"
    grep -q "sh pipelines/$name" help.log || fail "$name --help does not show its use"
    code=0
    sh "$script" a b c d e f g >/dev/null 2>&1 || code=$?
    [ "$code" -eq 2 ] || fail "$name with too many arguments ends with $code, not 2"
done
code=0
sh "$pipelines/usb-camera.sh" missing.vadlite >/dev/null 2>err.log || code=$?
[ "$code" -eq 1 ] || fail "usb-camera.sh with a missing model ends with $code, not 1"
grep -q 'missing.vadlite.*vadlite fit' err.log || fail "the message for a missing model does not help: $(cat err.log)"
head -c 100 part.vadlite >damaged.vadlite
code=0
VADLITE_SOURCE=$(source_of "$part") VADLITE_SINK=fakesink sh "$pipelines/usb-camera.sh" damaged.vadlite >/dev/null 2>err.log || code=$?
[ "$code" -ne 0 ] || fail "a damaged model is not an error"
grep -q 'damaged.vadlite' err.log || fail "the message for a damaged model does not name it: $(cat err.log)"
pass "help, wrong arguments, missing and damaged model"

# --- every format -------------------------------------------------------------------------------------------------

for format in GRAY8 GRAY16_LE RGB BGR RGBx BGRx RGBA BGRA xRGB NV12 NV21 I420 YV12 YUY2 UYVY; do
    launch videotestsrc num-buffers=100 ! "video/x-raw,format=$format,width=321,height=241" ! vadlite model=part.vadlite ! fakesink
done
pass "100 frames of every format"

# --- the demo with folders ------------------------------------------------------------------------------------------

if [ "${VADLITE_PLUGINS:-}" = "" ]; then
    # shellcheck disable=SC2046
    {
        launch $(source_of "$part" 10) ! videoconvert ! pngenc ! multifilesink location=test/good/%03d.png
        launch $(source_of pattern=snow 5 400 300) ! videoconvert ! jpegenc ! multifilesink location=test/snow/%03d.jpg
    }
    VADLITE_OUT="demo out" sh "$pipelines/demo.sh" good test >out.log 2>err.log || {
        cat out.log err.log >&2
        fail "demo.sh with folders"
    }
    grep -q '^detection rate *100.0 %  (5 of 5' out.log || fail "demo.sh does not find the pictures of snow: $(cat out.log)"
    grep -q '^I-AUROC *1.0000' out.log || fail "demo.sh does not tell good from bad: $(cat out.log)"
    VADLITE_OUT="demo out" sh "$pipelines/demo.sh" good test/snow >out.log 2>err.log || {
        cat out.log err.log >&2
        fail "demo.sh with a folder of unknown truth"
    }
    grep -q '^5 of 5 pictures are flagged; the truth is unknown' out.log || fail "demo.sh without truth: $(cat out.log)"
    code=0
    mkdir empty
    VADLITE_OUT="demo out" sh "$pipelines/demo.sh" empty test >out.log 2>err.log || code=$?
    [ "$code" -ne 0 ] || fail "demo.sh fits on an empty folder"
    pass "demo.sh with own folders"
fi

echo "pipelines.sh: $passed passed, 0 failed"
