# from= tells a connection by 127.0.0.1 from one without an address, by a pipe; at a gateway each comes from the Spark's.
/^# Test from= restriction/,/^check_valid_before() {/ { /^check_valid_before() {/!d }
