# shellcheck shell=bash
# Idle bash: it reads the file of $BASH_ENV before the script. Without arguments of its own, it keeps
# those that are set in that file.
unset BASH_ENV
printf .
IFS= read -r -N 8 REPLY || exit 0
IFS= read -r -d '' REPLY
if [ "$REPLY" != "$PWD" ]; then
  cd -- "$REPLY" || exit
  unset OLDPWD
  export OLDPWD
fi
IFS= read -r -d '' cloudlet_count # the file: the one of the command line
IFS= read -r -d '' cloudlet_count
set --
while [ $# -lt "$cloudlet_count" ]; do
  IFS= read -r -d '' REPLY
  set -- "$@" "$REPLY"
done
unset cloudlet_count
while IFS= read -r -d '' REPLY && [ -n "$REPLY" ]; do
  # shellcheck disable=SC2163 # it is a name and a value
  export "$REPLY"
done
unset REPLY
RANDOM=$SRANDOM
IFS= read -r HOSTNAME </proc/sys/kernel/hostname
SECONDS=0
