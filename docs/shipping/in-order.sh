#!/bin/sh
# Print the records of an export in the order of their seq, each once: `sh in-order.sh EXPORT > copy.jsonl`.
# Only whole lines that are the same are taken for one; two records with one seq both stay, and `keyturn audit verify` names them.
# Nothing is parsed and written anew, for then the bytes would not be those that were hashed.
set -eu
LC_ALL=C
export LC_ALL
sort -u "$1" | sed -n 's/^.*"seq":\([0-9][0-9]*\),".*$/\1 &/p' | sort -s -n -k1,1 | cut -d' ' -f2-
