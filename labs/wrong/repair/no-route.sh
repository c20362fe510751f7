#!/bin/bash
# Brings the link up and forgets that its routes went with it.
# check: cable
# expect: a device that goes down loses its routes
pid=$(minidock inspect -f '{{.State.Pid}}' shop)
nsenter -t "$pid" -m umount /www
nsenter -t "$pid" -n ip link set eth0 up
