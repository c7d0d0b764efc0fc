//! Output of services: captured, kept, followed.
