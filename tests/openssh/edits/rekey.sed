# RekeyLimit of sshd_config.
/verbose "server rekeylimit/i continue
