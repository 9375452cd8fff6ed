#!/bin/sh
# Shows on real pictures what vadlite does: fits it on good parts, inspects others in a GStreamer pipeline, sums up.
#
#     sh pipelines/demo.sh                     solar cells (PyPI package elpv-dataset, 91 MB, fetched once)
#     sh pipelines/demo.sh GOOD_DIR TEST_DIR   your own pictures (PNG, JPEG, BMP …, any sizes)
#
# Without folders: mono-crystalline cells photographed by electroluminescence, 300x300. Fitted on 400 cells without a
# defect (chosen by a hash of the file name), tested on the other 188 and on the 313 that are defective for certain.
# With folders: when TEST_DIR holds a folder good/ and others, the pictures in good/ count as good and the rest as
# defective, and the rates are printed; otherwise the truth is unknown.
#
# It first runs ./setup and builds vadlite (minutes on a fresh machine, seconds later). All results are in demo-out/:
#     inspection.mkv     the inspected pictures as a video, heatmap on the flagged ones
#     contact-sheet.png  the strongest hits, some misses, some good ones
#     table.txt          file, score, threshold, flagged, truth
#     part.vadlite       the model
# (or in the folder that the environment variable VADLITE_OUT names).
set -eu
. "$(dirname "$0")/common.sh"
arguments 0 2 "$@"
[ $# -ne 1 ] || {
    usage >&2
    exit 2
}

root=$(cd "$(dirname "$0")/.." && pwd)
out=$(absolute "${VADLITE_OUT:-$root/demo-out}")
good_folder='' test_folder=''
if [ $# -eq 2 ]; then
    for folder; do
        [ -d "$folder" ] || die "there is no folder $folder"
    done
    good_folder=$(absolute "$1")
    test_folder=$(absolute "$2")
fi

step() { printf '\n== %s\n' "$*"; }

# --- the machine, the program -------------------------------------------------------------------------------------

step "setup"
"$root/setup"

step "building vadlite (some minutes the first time)"
(cd "$root" && cargo build --release --locked) || die "cargo could not build vadlite; its messages are above"
built=${CARGO_TARGET_DIR:-$root/target}/release
export PATH="$built:$PATH" GST_PLUGIN_PATH="$built${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
find_plugin
vadlite --version

# --- the pictures -------------------------------------------------------------------------------------------------

mkdir -p "$out"

# Fetches and unpacks the solar cells into $out/elpv, once.
fetch_cells() {
    [ -f "$out/elpv/complete" ] && return
    echo "fetching elpv-dataset (91 MB)"
    rm -rf "$out/elpv" "$out/download"
    mkdir -p "$out/download"
    echo "elpv-dataset==1.0.0.post1 --hash=sha256:85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c" >"$out/download/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        -d "$out/download" -r "$out/download/requirements.txt" ||
        die "the package elpv-dataset could not be fetched from PyPI. Without network, run it with your own folders: sh pipelines/demo.sh GOOD_DIR TEST_DIR"
    python3 -m zipfile -e "$out"/download/elpv_dataset-*.whl "$out/download/unpacked"
    mv "$out/download/unpacked/elpv_dataset/data" "$out/elpv"
    mv "$out"/download/unpacked/*.dist-info/licenses/LICENSE.md "$out/elpv/LICENSE.md"
    rm -rf "$out/download"
    : >"$out/elpv/complete"
}

# Lays the cells out as $data/{train/good,test/good,test/defective}, links into $out/elpv.
lay_out_cells() {
    python3 - "$out/elpv" "$data" <<'END'
import hashlib, os, sys
source, data = sys.argv[1:]
good, defective = [], []
with open(os.path.join(source, "labels.csv")) as labels:
    for line in labels:
        path, probability, kind = line.split()
        if kind == "mono" and float(probability) in (0.0, 1.0):
            (defective if float(probability) else good).append(path)
good.sort(key=lambda path: hashlib.sha256(os.path.basename(path).encode()).digest())
for folder, paths in [("train/good", good[:400]), ("test/good", sorted(good[400:])), ("test/defective", sorted(defective))]:
    os.makedirs(os.path.join(data, folder))
    for path in paths:
        os.symlink(os.path.join(source, path), os.path.join(data, folder, os.path.basename(path)))
END
}

# Lays the user's test pictures out as $data/test/<folder>, links; `good` and others where the truth is known.
lay_out_folders() {
    mkdir -p "$data/train" "$data/test"
    ln -s "$good_folder" "$data/train/good"
    if [ -d "$test_folder/good" ]; then
        for folder in "$test_folder"/*/; do
            folder=${folder%/}
            ln -s "$folder" "$data/test/$(basename "$folder")"
        done
    else
        ln -s "$test_folder" "$data/test/unknown"
    fi
}

data=$out/pictures
rm -rf "$data" "$out/work" "$out/part.vadlite" "$out/inspection.mkv" "$out/contact-sheet.png" "$out/table.txt" "$out/messages.txt"
mkdir -p "$out/work"
if [ -z "$good_folder" ]; then
    step "pictures: solar cells"
    fetch_cells
    lay_out_cells
else
    step "pictures: $good_folder, $test_folder"
    lay_out_folders
fi
# By file name, so that good and defective ones alternate in the video.
list_images "$data/test" | awk -F / '{ print $NF "/" $0 }' | LC_ALL=C sort | cut -d / -f 2- >"$out/work/list"
echo "good pictures to fit on: $(list_images "$data/train/" | wc -l), pictures to test: $(wc -l <"$out/work/list")"

# --- fit ----------------------------------------------------------------------------------------------------------

model=$out/part.vadlite
step "vadlite fit"
vadlite fit --images "$data/train/good" --out "$model" || die "no model was fitted; the reason is above"

# --- inspect ------------------------------------------------------------------------------------------------------

step "inspecting with gst-launch-1.0"
stage_images "$out/work" <"$out/work/list"
mkdir "$out/work/frames"
# The video has frames of one size: the solar cells' own, or 640x480 with borders.
if [ -z "$good_folder" ]; then size=width=300,height=300; else size=width=640,height=480; fi
cd "$out/work"
pipeline="$image_source ! videoconvert ! video/x-raw,format=RGB
    ! vadlite model=../part.vadlite post-messages=all ! tee name=inspected
    inspected. ! queue ! videoconvert ! videoscale add-borders=true ! video/x-raw,$size,pixel-aspect-ratio=1/1
        ! vp8enc deadline=1 cpu-used=4 target-bitrate=2000000 keyframe-max-dist=10 ! matroskamux ! filesink location=../inspection.mkv
    inspected. ! queue ! pngenc compression-level=1 ! multifilesink location=frames/%06d.png"
printf 'gst-launch-1.0 -m %s\n' "$pipeline"
# shellcheck disable=SC2086 # a list of words
gst-launch-1.0 -m $pipeline >messages.txt 2>errors.txt || {
    cat errors.txt >&2
    die "the pipeline failed; the reason is above"
}

tab=$(printf '\t')

# --- the table ----------------------------------------------------------------------------------------------------

# From the bus messages: frame, score, threshold, flagged, truth, file; a tab between them.
awk '
    # First value of that name: the regions behind the other fields have scores of their own.
    function field(name, type) {
        if (!match($0, " " name "=\\(" type "\\)[^,;]*")) return ""
        return substr($0, RSTART + length(name type) + 4, RLENGTH - length(name type) - 4)
    }
    FNR == NR { names[count++] = substr($0, length(folder) + 1); next }
    /\(element\): vadlite,/ {
        frame = field("frame", "guint64")
        if (field("inspected", "boolean") == "true" && frame in names) {
            file = names[frame]
            truth = file ~ /^good\// ? "good" : file ~ /^unknown\// ? "unknown" : "defective"
            printf "%s\t%s\t%s\t%s\t%s\t%s\n", frame, field("score", "double"), field("threshold", "double"), field("flagged", "boolean"), truth, file
        }
    }
' folder="$data/test/" names messages.txt | sort -n >rows
pictures=$(wc -l <names)
inspected=$(wc -l <rows)
[ "$inspected" -eq "$pictures" ] ||
    die "only $inspected of $pictures pictures were inspected; a damaged file among them? The pipeline's messages are in $out/work/messages.txt and errors.txt"

# The lines on standard input as a table.
print_table() {
    awk -F '\t' 'BEGIN { printf "%-36s %12s %12s  %-7s  %s\n", "file", "score", "threshold", "flagged", "truth" }
        { printf "%-36s %12.5f %12.5f  %-7s  %s\n", $6, $2, $3, $4 == "true" ? "yes" : "no", $5 }'
}
by_score() { sort -t "$tab" -k 2,2 -g -r; }
print_table <rows >"$out/table.txt"

step "the strongest of the $pictures pictures (all of them: $out/table.txt)"
by_score <rows | head -n 8 | print_table

# --- the rates ----------------------------------------------------------------------------------------------------

step "result"
good=$(awk -F '\t' '$5 == "good"' rows | wc -l)
defective=$(awk -F '\t' '$5 == "defective"' rows | wc -l)
if [ "$good" -gt 0 ] && [ "$defective" -gt 0 ]; then
    vadlite eval --model "$model" --dataset "$data" --json >eval.json 2>eval.log || {
        cat eval.log >&2
        die "vadlite eval failed; the reason is above"
    }
    by_eval=$(sed -n 's/.*"image_auroc": *\([0-9.e+-]*\).*/\1/p' eval.json)
    # The share of pairs (good, defective) in which the defective one scores higher.
    by_pipeline=$(awk -F '\t' '
        $5 == "good" { low[g++] = $2 }
        $5 == "defective" { high[d++] = $2 }
        END {
            for (i = 0; i < g; i++) for (j = 0; j < d; j++) wins += high[j] > low[i] ? 1 : high[j] == low[i] ? 0.5 : 0
            printf "%.4f", wins / (g * d)
        }' rows)
    awk -F '\t' '
        $5 == "defective" { d++; hit += $4 == "true" }
        $5 == "good" { g++; alarm += $4 == "true" }
        END {
            printf "detection rate    %5.1f %%  (%d of %d defective ones flagged)\n", 100 * hit / d, hit, d
            printf "false-alarm rate  %5.1f %%  (%d of %d good ones flagged)\n", 100 * alarm / g, alarm, g
        }' rows
    awk -v a="$by_pipeline" -v b="$by_eval" 'BEGIN {
        printf "I-AUROC           %.4f   (scores of the pipeline; vadlite eval: %.4f)\n", a, b
        exit (a - b > 0.005 || b - a > 0.005 || b == "")
    }' || die "the pipeline and vadlite eval disagree about the same pictures (I-AUROC $by_pipeline and '$by_eval')"
else
    awk -F '\t' '{ n += $4 == "true" } END { printf "%d of %d pictures are flagged; the truth is unknown\n", n, NR }' rows
fi

# --- the contact sheet --------------------------------------------------------------------------------------------

# row FILE TITLE: the frames of the lines on standard input, captioned, as one picture; nothing when there are none.
row() {
    file=$1 title=$2
    set --
    while IFS="$tab" read -r frame score threshold _ _ name; do
        caption=$(basename "$name" | sed 's/[%@\\]/_/g')
        caption=$(printf '%s\n%.4g (threshold %.4g)' "$caption" "$score" "$threshold")
        set -- "$@" -label "$caption" "frames/$(printf %06d "$frame").png"
    done
    [ $# -gt 0 ] || return 0
    montage ${font:+-font "$font"} -pointsize 11 -background white -fill black -title "$title" "$@" -tile 6x -geometry '180x180>+6+4' "$file"
}

# Newer versions of ImageMagick find no font by themselves.
font=
for file in /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf /usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf /usr/share/fonts/TTF/DejaVuSans.ttf; do
    [ ! -f "$file" ] || font=$file
done
# select_rows TRUTH FLAGGED: the table's lines of that kind, highest score first.
select_rows() { awk -F '\t' -v truth="$1" -v flagged="$2" '$5 ~ truth && $4 == flagged' rows | by_score; }
if [ "$good" -gt 0 ] && [ "$defective" -gt 0 ]; then
    select_rows defective true | head -n 12 | row sheet-1.png "Defective and flagged: the highest scores"
    select_rows defective false | tail -n 6 | row sheet-2.png "Defective and missed: the lowest scores"
    select_rows good true | head -n 6 | row sheet-3.png "Good but flagged: the highest scores"
    select_rows good false | awk 'NR % 20 == 10' | head -n 6 | row sheet-4.png "Good and passed"
    [ -f sheet-4.png ] || select_rows good false | head -n 6 | row sheet-4.png "Good and passed"
else
    select_rows . true | head -n 12 | row sheet-1.png "Flagged: the highest scores"
    select_rows . false | head -n 6 | row sheet-2.png "Passed: the highest scores"
    select_rows . false | tail -n 6 | row sheet-3.png "Passed: the lowest scores"
fi
montage ${font:+-font "$font"} sheet-?.png -tile 1x -geometry +0+8 -gravity west -background white -depth 8 "$out/contact-sheet.png" ||
    die "ImageMagick could not make the contact sheet; its messages are above"

for file in contact-sheet.png inspection.mkv table.txt part.vadlite; do
    [ -s "$out/$file" ] || die "$out/$file was not written"
done
echo
echo "$out/contact-sheet.png   heatmaps"
echo "$out/inspection.mkv      the inspected pictures as a video"
echo "$out/table.txt           every score"
[ -n "$good_folder" ] || echo "Pictures: ELPV dataset, Buerhop-Lutz, Deitsch et al., CC BY-NC-SA 4.0 ($out/elpv/LICENSE.md)"
