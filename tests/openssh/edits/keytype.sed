# A host key of the user key's type: the server has its own.
s|) > $OBJ/known_hosts$|) > /dev/null|
/echo HostKeyAlgorithms \$host_type/d
