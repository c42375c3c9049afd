#!/bin/sh
# Installs the fonts of recipes/latin_letters.py from Debian 12's main section; run as root. DejaVu is left out on
# purpose: the demo draws its images with it, and the base must not have seen them. 36 MB to download, 110 MB on disk.
set -eu

apt-get update
apt-get install -y --no-install-recommends \
    fonts-croscore fonts-roboto-unhinted fonts-noto-core fonts-open-sans fonts-lato fonts-inter fonts-cabin \
    fonts-quicksand fonts-jetbrains-mono fonts-linuxlibertine fonts-ebgaramond fonts-gfs-didot fonts-texgyre \
    fonts-crosextra-caladea fonts-cantarell fonts-inconsolata fonts-paratype
