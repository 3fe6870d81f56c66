#![no_main]

countersign_fuzz::target!(targets::content_authenticode);
