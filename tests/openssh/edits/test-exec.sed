# The host's keys are the gateway's, and not those of the user.
s|^SSH_HOSTKEY_TYPES=.*|SSH_HOSTKEY_TYPES=`cut -d " " -f 1 /srv/openssh/state/host_keys`|
/printf 'localhost-with-alias/,/cat/ s|cat \$OBJ/\$t.pub|grep "^$t " /srv/openssh/state/host_keys|
# PuTTY is told the fingerprint.
s|^\(.*\)echo "ProxyLocalhost=1" >> \(.*\)|&\n\1echo "SSHManualHostKeys=`ssh-keygen -lf /srv/openssh/state/host_keys \| cut -d " " -f 2`" >> \2|
