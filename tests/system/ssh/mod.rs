//! Runs at far machines, over real ssh and real sshd: the built program from the outside, and the far end as it really is.

mod corpus;
