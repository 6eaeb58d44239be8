# sum_column N: the sum of column N of the standard input.
sum_column() {
  awk -v column="$1" '$column ~ /^[0-9]+$/ { sum += $column } END { print sum + 0 }'
}
