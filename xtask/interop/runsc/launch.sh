#!/bin/sh
# Runs where runsc would have executed itself again: as its gofer, or as what it asks for otherwise.
# Written around it when it is installed: $GOFER and $RUNSC.

for word; do
    case $word in
    -*) ;;
    *) break ;;
    esac
done
if [ "$word" = gofer ]; then
    exec $GOFER -- "$@"
fi
exec $RUNSC "$@"
