package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Source remembers where each value of a Config came from.
type Source struct {
	file string
	at   map[string]position // by path
	env  map[string]string   // variable names, by path
	from map[string]bool     // paths whose text came out of ${…}
}

type position struct{ line, col int }

// Problem is a mistake found at path, at the position of the path or of the
// nearest thing around it. A nil Source is that of a configuration without a
// file.
func (s *Source) Problem(path, message string) Problem {
	if s == nil {
		return Problem{File: "dev mode", Path: path, Message: message}
	}
	p := Problem{File: s.file, Path: path, Message: message}
	for at := path; ; at = parent(at) {
		if name, ok := s.env[at]; ok {
			p.Env = name
			return p
		}
		if pos, ok := s.at[at]; ok {
			p.Line, p.Col = pos.line, pos.col
			return p
		}
		if at == "" {
			return p
		}
	}
}

// says reports whether file or environment say something at path or inside it.
func (s *Source) says(path string) bool {
	if _, ok := s.at[path]; ok {
		return true
	}
	for at := range s.env {
		if rest, ok := strings.CutPrefix(at, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// show quotes a text for a message, unless it, or the list it stands in, came out
// of ${…}: that may be a secret in the wrong place.
func (s *Source) show(path, text string) string {
	if s.from[path] || s.from[parent(path)] {
		return "what ${…} stands for"
	}
	return strconv.Quote(text)
}

// parent is the path of what contains path.
func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
