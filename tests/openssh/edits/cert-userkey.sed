# AuthorizedPrincipalsFile, TrustedUserCAKeys and RevokedKeys of sshd_config. What stays is cert-authority before a key.
/# Setup for AuthorizedPrincipalsFile/,/# Setup for principals= key option/d
/# Revoked keys/,/empty KRL"/d
/# Revoked CA/,/CA does not authenticate"/d
/^basic_tests TrustedUserCAKeys/d
s/auth_choice="authorized_keys TrustedUserCAKeys"/auth_choice="authorized_keys"/
/^test_one .*TrustedUserCAKeys$/d
/^test_one "AuthorizedPrincipalsFile/,+1d
# Signatures by SHA-1, which the server does not take.
/^kname()/,/^}/s|s/^rsa/ssh-rsa/|s/^rsa/rsa-sha2-512/|
# Since OpenSSH 10.3 a certificate without principals never matches, by authorized_keys either.
/^test_one "empty principals"/s/success/failure/
# An address that no Spark has.
s|10\.0\.0\.0/8|192.0.2.0/24|
