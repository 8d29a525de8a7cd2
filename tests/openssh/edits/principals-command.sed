# AuthorizedPrincipalsCommand and TrustedUserCAKeys of sshd_config. What stays is principals= before a key.
/^# Test explicitly-specified principals/,/^# TODO: remove/d
