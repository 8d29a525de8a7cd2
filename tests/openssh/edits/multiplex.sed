# Of what a client may set, the server takes LC_* and not _XXX_TEST*.
s/_XXX_TEST/LC_XXX_TEST/g
# What sshd says to somebody who doesn't speak SSH; ours says its version to everybody.
s/grep "Invalid SSH identification string"/grep "^SSH-2.0-"/
