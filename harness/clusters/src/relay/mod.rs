//! A container per directed link, between a gateway and its clients.
