#!/bin/bash
# Adds up the columns of a file; exits with 3 when a line has no number.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/sum.sh"

file=$1
echo "$GREETING $(basename "$file"):"
for column in 1 2 3; do
  printf '%d: %d\n' "$column" "$(sum_column "$column" <"$file")"
done
bad=$(grep -cvE '^([0-9]+ ?)+$' "$file" || true)
if [ "$bad" -gt 0 ]; then
  echo "$bad bad lines" >&2
  exit 3
fi
