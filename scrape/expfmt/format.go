package expfmt

import (
	"errors"
	"fmt"
	"mime"
)

// Format is an exposition format.
type Format uint8

// The formats. Unknown is none of them.
const (
	Unknown        Format = iota
	Text004               // Prometheus text, version 0.0.4
	Text100               // Prometheus text, version 1.0.0: names may be quoted
	OpenMetrics001        // OpenMetrics text, version 0.0.1
	OpenMetrics100        // OpenMetrics text, version 1.0.0
	Protobuf              // length-delimited MetricFamily messages
)

// String is the content type of the format.
func (f Format) String() string {
	switch f {
	case Text004:
		return "text/plain; version=0.0.4"
	case Text100:
		return "text/plain; version=1.0.0"
	case OpenMetrics001:
		return "application/openmetrics-text; version=0.0.1"
	case OpenMetrics100:
		return "application/openmetrics-text; version=1.0.0"
	case Protobuf:
		return "application/vnd.google.protobuf"
	}
	return "unknown"
}

// OpenMetrics says whether f is a version of OpenMetrics text.
func (f Format) OpenMetrics() bool { return f == OpenMetrics001 || f == OpenMetrics100 }

// Text says whether f is a version of the Prometheus text format.
func (f Format) Text() bool { return f == Text004 || f == Text100 }

// FormatOf tells the format from a Content-Type header. The media type alone
// decides between text, OpenMetrics and protobuf. When the header is missing,
// malformed or names something else, fallback decides: a media type, or "" for
// none. The error then says what was wrong with the header, whether the
// fallback helped or not: a known format with an error is for a debug message,
// Unknown with an error fails the scrape. An empty body needs no format.
func FormatOf(contentType, fallback string) (Format, error) {
	mediaType, version, err := mediaTypeOf(contentType)
	if err == nil {
		return formatOf(mediaType, version), nil
	}
	if fallback == "" {
		return Unknown, fmt.Errorf("%w and no fallback_scrape_protocol specified for target", err)
	}
	return formatOf(fallback, ""), fmt.Errorf("%w, using fallback_scrape_protocol %q", err, fallback)
}

// The media types that are understood.
const (
	typeText        = "text/plain"
	typeOpenMetrics = "application/openmetrics-text"
	typeProtobuf    = "application/vnd.google.protobuf"
)

// mediaTypeOf takes a Content-Type header apart. It fails for what formatOf
// would not know.
func mediaTypeOf(contentType string) (mediaType, version string, err error) {
	if contentType == "" {
		return "", "", errors.New("non-compliant scrape target sending blank Content-Type")
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", "", fmt.Errorf("cannot parse received Content-Type %q (%w)", contentType, err)
	}
	version = params["version"]
	if mediaType == typeOpenMetrics && version == "2.0.0" {
		return "", "", fmt.Errorf("received OpenMetrics 2.0 Content-Type %q, but the openmetrics2 feature flag is not enabled", contentType)
	}
	if formatOf(mediaType, version) == Unknown {
		return "", "", fmt.Errorf("received unsupported Content-Type %q", contentType)
	}
	return mediaType, version, nil
}

func formatOf(mediaType, version string) Format {
	switch mediaType {
	case typeText:
		if version == "1.0.0" {
			return Text100
		}
		return Text004
	case typeOpenMetrics:
		if version == "0.0.1" {
			return OpenMetrics001
		}
		return OpenMetrics100
	case typeProtobuf:
		return Protobuf
	}
	return Unknown
}
