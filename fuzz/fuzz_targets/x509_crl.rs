#![no_main]

countersign_fuzz::target!(targets::x509_crl);
