#!/bin/sh
# Writes down how it was started, at once, and stays.
said=$(
  echo "cwd $PWD"
  for arg; do echo "arg $arg"; done
  env | sed 's/^/env /'
)
printf '%s\n' "$said" > "$SAID/$pm_id"
exec sleep 1000
