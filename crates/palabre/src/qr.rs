//! Draws QR codes: in a terminal, where each character cell shows two modules as Unicode half blocks, and as SVG and PNG files.

use std::io::Write;
use std::path::{Path, PathBuf};

use palabre_host::exit::Failure;
use qrcode::{Color, EcLevel, QrCode};
use tempfile::NamedTempFile;

use crate::output::check_target;

/// Width of the light border that ISO/IEC 18004 requires, in modules.
const QUIET_ZONE: usize = 4;

/// Side of a module in a PNG, in pixels.
const MODULE_PIXELS: usize = 8;

/// Format of a file with a QR code.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ImageFormat {
    Svg,
    Png,
}

/// A file for a QR code. Only its owner may read the file, because a link contains an access key.
pub(crate) struct Image {
    path: PathBuf,
    format: ImageFormat,
    file: NamedTempFile,
}

impl Image {
    /// Creates the file under a temporary name, so that a directory without permission is noticed before there is a link.
    pub(crate) fn create(path: &Path, format: ImageFormat) -> Result<Self, Failure> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        check_target(path)
            .map_err(|error| Failure::system(format!("unable to write '{}': {error}", path.display())))?;
        let file = NamedTempFile::new_in(directory)
            .map_err(|error| Failure::system(format!("unable to create '{}': {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), format, file })
    }

    /// Writes the QR code of `text`, and replaces a file of the same name.
    pub(crate) fn write(mut self, text: &str) -> Result<(), Failure> {
        let unable = |cause: &dyn std::fmt::Display| {
            Failure::system(format!("unable to write '{}': {cause}", self.path.display()))
        };
        let modules = Modules::of(text, EcLevel::M).ok_or_else(|| unable(&"the link is too long for a QR code"))?;
        let bytes = match self.format {
            ImageFormat::Svg => svg(&modules).into_bytes(),
            ImageFormat::Png => png(&modules).map_err(|error| unable(&error))?,
        };
        self.file.write_all(&bytes).map_err(|error| unable(&error))?;
        self.file
            .persist(&self.path)
            .map(drop)
            .map_err(|error| Failure::system(format!("unable to write '{}': {}", self.path.display(), error.error)))
    }
}

/// The modules of a QR code with its light border.
struct Modules {
    code: QrCode,
    side: usize,
}

impl Modules {
    /// Returns `None` if the text is too long.
    fn of(text: &str, level: EcLevel) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, level).ok()?;
        let side = code.width() + 2 * QUIET_ZONE;
        Some(Self { code, side })
    }

    fn is_light(&self, x: usize, y: usize) -> bool {
        let inside = QUIET_ZONE..QUIET_ZONE + self.code.width();
        let is_inside = inside.contains(&x) && inside.contains(&y);
        !is_inside || self.code[(x - QUIET_ZONE, y - QUIET_ZONE)] == Color::Light
    }
}

/// Returns the QR code of `text` as lines; `None` if the text is too long. Foreground and background colours are set, so the code is
/// readable on dark and on light terminals.
pub(crate) fn terminal(text: &str) -> Option<String> {
    let modules = Modules::of(text, EcLevel::L)?;
    let (side, is_light) = (modules.side, |x: usize, y: usize| modules.is_light(x, y));
    let mut lines = String::new();
    for y in (0..side).step_by(2) {
        lines.push_str("\x1b[97;40m");
        lines.extend((0..side).map(|x| half_block(is_light(x, y), is_light(x, y + 1))));
        lines.push_str("\x1b[0m\n");
    }
    Some(lines)
}

/// Returns an SVG whose unit is a module.
fn svg(modules: &Modules) -> String {
    let side = modules.side;
    let cells = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
    let dark = cells.filter(|&(x, y)| !modules.is_light(x, y));
    let path: String = dark.map(|(x, y)| format!("M{x} {y}h1v1h-1z")).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\n\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/>\n<path d=\"{path}\"/>\n</svg>\n"
    )
}

fn png(modules: &Modules) -> Result<Vec<u8>, png::EncodingError> {
    let side = modules.side * MODULE_PIXELS;
    let pixels = (0..side).flat_map(|y| (0..side).map(move |x| (x / MODULE_PIXELS, y / MODULE_PIXELS)));
    let pixels: Vec<u8> = pixels.map(|(x, y)| if modules.is_light(x, y) { u8::MAX } else { 0 }).collect();
    let mut bytes = Vec::new();
    let pixel_count = u32::try_from(side).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut bytes, pixel_count, pixel_count);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

fn half_block(upper: bool, lower: bool) -> char {
    match (upper, lower) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn code_is_square_and_has_a_quiet_zone() {
        let text = terminal("https://room.example/?key=0123456789abcdef0123456789abcdef").unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[8..line.len() - 4]).collect();
        let side = lines[0].chars().count();
        assert_eq!(lines.len(), side.div_ceil(2));
        assert!(lines[..2].iter().all(|line| line.chars().all(|cell| cell == '█')));
        assert!(lines.iter().all(|line| line.starts_with("████") && line.ends_with("████")));
        // The upper edge of the finder pattern: seven dark modules, then light.
        assert!(lines[2].starts_with("████ ▄▄▄▄▄ █"), "{}", lines[2]);
    }

    fn decoded(side: usize, is_light: impl Fn(usize, usize) -> bool) -> String {
        let grey = |x: usize, y: usize| if is_light(x, y) { u8::MAX } else { 0 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, grey);
        image.detect_grids().first().unwrap().decode().unwrap().1
    }

    #[test]
    fn decoder_reads_the_files_which_only_the_owner_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let link = "https://voice.example.org:9001/?key=0123456789abcdef0123456789abcdef";
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, format| {
            let path = directory.path().join(name);
            Image::create(&path, format).unwrap().write(link).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::read(path).unwrap()
        };
        let bytes = file("code.png", ImageFormat::Png);
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let side = reader.next_frame(&mut pixels).unwrap().width as usize;
        assert_eq!(decoded(side, |x, y| pixels[y * side + x] > 0), link);
        let text = String::from_utf8(file("code.svg", ImageFormat::Svg)).unwrap();
        let side: usize = text.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let dark: std::collections::HashSet<&str> = text.split('M').filter_map(|cell| cell.split('h').next()).collect();
        let is_dark = |x: usize, y: usize| dark.contains(format!("{x} {y}").as_str());
        assert_eq!(decoded(side * 4, |x, y| !is_dark(x / 4, y / 4)), link);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        assert!(Image::create(&directory.path().join("missing/code.png"), ImageFormat::Png).is_err());
    }

    #[test]
    fn text_that_is_too_long_has_no_code() {
        assert!(terminal(&"x".repeat(5_000)).is_none());
    }
}
