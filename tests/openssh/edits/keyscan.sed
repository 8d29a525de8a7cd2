# The types of the host's keys, which are not those of the users'.
s/SSH_KEYTYPES/SSH_HOSTKEY_TYPES/
