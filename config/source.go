package config

import (
	"fmt"
	"strings"
)

// Source remembers where each value of a Config came from.
type Source struct {
	file string
	at   map[string]position // by path
	env  map[string]string   // variable names, by path
}

type position struct{ line, col int }

// File is the name that the configuration was loaded under.
func (s *Source) File() string { return s.file }

// Problem is a mistake found at path, at the position of the path or of the
// nearest thing around it.
func (s *Source) Problem(path, message string) Problem {
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
