# Of what a client may set, the server takes LC_* and not _XXX_TEST*.
s/_XXX_TEST/LC_XXX_TEST/g
# SetEnv of sshd_config.
/^trace "server setenv wins"/,$d
