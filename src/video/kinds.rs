//! Which kinds of files are read: those that hold their pictures themselves.

/// Kinds of files that are read, by FFmpeg's names: they hold their pictures themselves. Those of sound are among them so
/// that a message can say that there is no video.
pub(super) const FORMATS: &[&str] = &[
    // Videos.
    "mov",
    "matroska",
    "avi",
    "gif",
    "yuv4mpegpipe",
    "mpegts",
    "mpeg",
    "flv",
    "asf",
    "ogg",
    "h264",
    "hevc",
    "vvc",
    "m4v",
    "mpegvideo",
    "mjpeg",
    "ivf",
    "obu",
    "av1",
    "nut",
    "mxf",
    "apng",
    "dv",
    "vc1",
    "h263",
    "h261",
    "dirac",
    "rm",
    // Images.
    "ico",
    "png_pipe",
    "jpeg_pipe",
    "jpegls_pipe",
    "jpegxl_pipe",
    "j2k_pipe",
    "bmp_pipe",
    "tiff_pipe",
    "webp_pipe",
    "gif_pipe",
    "ppm_pipe",
    "pgm_pipe",
    "pgmyuv_pipe",
    "pbm_pipe",
    "pam_pipe",
    "pfm_pipe",
    "phm_pipe",
    "qoi_pipe",
    "exr_pipe",
    "hdr_pipe",
    "dds_pipe",
    "dpx_pipe",
    "sgi_pipe",
    "sunrast_pipe",
    "pcx_pipe",
    "psd_pipe",
    "jpegxl_anim",
    // Sound.
    "wav",
    "w64",
    "mp3",
    "flac",
    "aac",
    "aiff",
    "au",
    "caf",
    "ac3",
    "eac3",
    "dts",
    "ape",
    "wv",
    "tta",
    "amr",
];
/// Most bytes from which a kind is told, as in FFmpeg.
pub(super) const LAST_LOOK: usize = 1 << 20;
/// Largest piece of memory that FFmpeg may take at once. The largest picture that is read has 805 MB in 16 bits.
pub(super) const LARGEST_PIECE: usize = 1 << 30;
/// What is said of a playlist.
pub(super) const NO_PLAYLIST: &str = "it is a playlist, not a video: give the files that it names";

/// Whether a beginning is that of a text which names other files; FFmpeg wants some of them to have a certain name too.
pub(super) fn is_playlist(bytes: &[u8]) -> bool {
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let start = start[..start.len().min(512)].to_ascii_lowercase();
    let begins: [&[u8]; 6] = [
        b"#extm3u",
        b"ffconcat",
        b"v=0\n",
        b"v=0\r",
        b"[playlist]",
        b"[reference]",
    ];
    let holds: [&[u8]; 3] = [b"<mpd", b"<smil", b"<asx"];
    let xml = start.starts_with(b"<")
        && holds
            .iter()
            .any(|tag| start.windows(tag.len()).any(|part| part == *tag));
    xml || begins.iter().any(|begin| start.starts_with(begin))
}
