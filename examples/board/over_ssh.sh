#!/bin/sh
# Copies two files and their inputs to a board and times them there: device = "command:./over_ssh.sh pi@board".
# Once before: scp time_blocks.py pi@board: and, on the board, pip install onnxruntime numpy.
set -e
board=$1 candidate=$2 reference=$3 inputs=$4 seconds=$5 threads=$6
folder=$(ssh -n "$board" mktemp -d)
trap 'ssh -n "$board" rm -r "$folder"' EXIT
trap 'exit 1' TERM INT
scp -q "$candidate" "$board:$folder/candidate.onnx"
scp -q "$reference" "$board:$folder/reference.onnx"
scp -q "$inputs" "$board:$folder/inputs.npz"
ssh -n "$board" python3 time_blocks.py "$folder/candidate.onnx" "$folder/reference.onnx" "$folder/inputs.npz" "$seconds" "$threads"
