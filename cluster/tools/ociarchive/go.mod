module sparks.loop.work/cluster/tools/ociarchive

go 1.25.0
